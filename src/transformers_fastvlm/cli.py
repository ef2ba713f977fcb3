# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
The `fastvlm` command. Every sub-command only reads its arguments and calls the capability behind it.

Nothing of the package is imported before a sub-command runs, so that help and mistakes in arguments take no seconds.
"""

import shlex
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup


class OneLineErrors(TyperGroup):
    """Ends in one line on stderr, with exit code 2, where arguments or what they name are wrong."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **kwargs)
        try:
            code = super().main(*args, standalone_mode=False, **kwargs)
        except typer.Abort:
            sys.exit(1)
        except Exception as error:
            if (message := getattr(error, "format_message", None)) is not None:  # typer's own
                context = getattr(error, "ctx", None)
                path = context.command_path if context else "fastvlm"
                print(f"{path}: error: {' '.join(message().split())} (--help lists the options)", file=sys.stderr)
                sys.exit(getattr(error, "exit_code", 2))
            from .programs.mistakes import end_with_one_line

            end_with_one_line(error, "fastvlm")
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    cls=OneLineErrors,
    help="FastVLM for Hugging Face Transformers.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Time FastVLM beside other ways to run it.", invoke_without_command=True)
app.add_typer(bench, name="bench")


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version of this package.")] = False,
) -> None:
    """FastVLM for Hugging Face Transformers."""
    if version:
        typer.echo(f"fastvlm {metadata.version('transformers-fastvlm')}")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@bench.callback()
def bench_main(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Measure every promised ratio; fail if one falls short. Some minutes.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="With --check: CPU threads.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="With --check: also write the result here.")] = None,
) -> None:
    """Time FastVLM beside other ways to run it."""
    if context.invoked_subcommand is not None:
        return
    if not check:
        typer.echo(context.get_help())
        raise typer.Exit(0)
    from .benchmark import report, targets

    errors = Console(stderr=True)
    prepare_outputs(json_path)
    with errors.status("starting") as status:
        result = targets.check_targets(threads, status.update)
    report.print_targets(result, console())
    if json_path is not None:
        report.write_json(report.targets_dict(result), json_path)
    if short := [target.what for target in result.targets if target.verdict == "short"]:
        errors.print("Short of the promise:\n" + "\n".join(short), markup=False)
        raise typer.Exit(1)


def names_in(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, without the empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def integers_in(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in names_in(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a comma-separated list of whole numbers.") from error


def prepare_outputs(path: Path | None, pictures: Path | None = None, option: str = "--json") -> None:
    """Refuse, before anything is measured, a file or folder of results that cannot be written."""
    from .programs.extras import require
    from .programs.mistakes import require_writable

    if path is not None:
        require_writable(path, option)
    if pictures is not None:
        require(["matplotlib"], "bench")
        pictures.mkdir(parents=True, exist_ok=True)


def console() -> Console:
    """Where results go: as wide as the terminal, or wide enough for a table in a file or pipe."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=160)


def draw(pictures: Callable[[Any, Path], list[Path]], result: Any, folder: Path, errors: Console) -> None:
    for path in pictures(result, folder):
        errors.print(f"Drew {path}", markup=False)


@bench.command()
def encoder(
    resolutions: Annotated[str, typer.Option(help="Sides of the square images, pixels.")] = "256,512,1024",
    dtypes: Annotated[str, typer.Option(help="Of float32, bfloat16, float16.")] = "float32,bfloat16",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per call.")] = 1,
    repetitions: Annotated[int, typer.Option(min=1, help="Measured calls per encoder and point.")] = 10,
    warmup: Annotated[int, typer.Option(min=0, help="Unmeasured calls before them.")] = 2,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: PyTorch's choice]")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    peers: Annotated[
        str | None,
        typer.Option(
            help="Of upstream (transformers' own, through timm), openvino, openvino-int8, onnxruntime, clip-vit-l, "
            "siglip-so400m, convnext-l, mci2; 'none' for ours alone. [default: upstream, if installed]"
        ),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write every measurement here.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder to draw a picture into.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Fail if ours is slower than a peer at any point.")] = False,
) -> None:
    """Latency of the vision encoder: ours and upstream's, same random weights, taking turns in one process."""
    from .benchmark import encoder as subject
    from .benchmark import plots, report
    from .benchmark.settings import MissingPeerError

    errors = Console(stderr=True)
    # What --check compares with is asked for, even if nothing names it.
    chosen = ("upstream",) if peers is None else names_in(peers) if peers != "none" else ()
    if check and not chosen:
        raise typer.BadParameter("--check compares with a peer, so it needs one in --peers.")
    if peers is None and not check:
        try:
            subject.PEERS["upstream"].require("upstream")
        except MissingPeerError as error:
            errors.print(f"Timing ours alone. {error}", markup=False)
            chosen = ()
    config = subject.EncoderBenchmarkConfig(
        resolutions=integers_in(resolutions),
        dtypes=names_in(dtypes),
        batch_size=batch_size,
        repetitions=repetitions,
        warmup=warmup,
        threads=threads,
        device=device,
        peers=chosen,
    )
    prepare_outputs(json_path, pictures)
    with errors.status("starting") as status:
        result = subject.run_encoder_benchmark(config, progress=status.update)
    report.print_encoder_benchmark(result, console())
    if json_path is not None:
        report.write_json(report.encoder_benchmark_dict(result), json_path)
    if pictures is not None:
        draw(plots.draw_encoders, result, pictures, errors)
    if check and (slower := subject.shortfalls(result)):
        errors.print("Ours is slower:\n" + "\n".join(slower), markup=False)
        raise typer.Exit(1)


@bench.command()
def ttft(
    resolutions: Annotated[
        str, typer.Option(help="Sides of the images, pixels; 2048 with tiles.")
    ] = "256,512,768,1024,1536,2048",
    decoder: Annotated[str, typer.Option(help="Size of the decoder: 0.5B, 1.5B, 7B.")] = "0.5B",
    dtype: Annotated[str, typer.Option(help="Of float32, bfloat16, float16.")] = "bfloat16",
    batch_size: Annotated[int, typer.Option(help="Prompts per call, one image each.")] = 1,
    peers: Annotated[
        str, typer.Option(help="Of upstream, llava-onevision (slow), llava-1.5; 'none' for ours alone.")
    ] = "upstream,llava-onevision,llava-1.5",
    ways: Annotated[str, typer.Option(help="Of ours-openvino, ours-int8: after optimize_for_inference.")] = "",
    model: Annotated[str | None, typer.Option(help="Folder or Hub id. [default: random weights]")] = None,
    image: Annotated[Path | None, typer.Option(help="An image file. [default: a made-up photograph]")] = None,
    text_tokens: Annotated[int, typer.Option(help="Tokens of the prompt besides the image's.")] = 40,
    new_tokens: Annotated[int, typer.Option(help="Tokens generated.")] = 16,
    repetitions: Annotated[int, typer.Option(help="Measured runs of each model.")] = 5,
    warmup: Annotated[int, typer.Option(help="Unmeasured runs before them.")] = 1,
    budget: Annotated[float, typer.Option(help="Seconds per model and resolution after which no run begins.")] = 60.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: PyTorch's choice]")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write every measurement here.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder to draw pictures into.")] = None,
) -> None:
    """Time from image file to first token, stage by stage, beside other models, each as its users get it."""
    from .benchmark import plots, report
    from .benchmark import ttft as subject

    errors = Console(stderr=True)
    config = subject.TtftBenchmarkConfig(
        resolutions=integers_in(resolutions),
        decoder=decoder,
        dtype=dtype,
        batch_size=batch_size,
        peers=names_in(peers) if peers != "none" else (),
        ways=names_in(ways),
        model=model,
        image=image,
        text_tokens=text_tokens,
        new_tokens=new_tokens,
        repetitions=repetitions,
        warmup=warmup,
        budget=budget,
        threads=threads,
        device=device,
    )
    prepare_outputs(json_path, pictures)
    with errors.status("starting") as status:
        result = subject.run_ttft_benchmark(config, progress=status.update)
    report.print_ttft_benchmark(result, console())
    if json_path is not None:
        report.write_json(report.ttft_benchmark_dict(result), json_path)
    if pictures is not None:
        draw(plots.draw_ttft, result, pictures, errors)


@bench.command()
def train(
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub id. [default: FastVLM-0.5B's sizes with random weights]")
    ] = None,
    methods: Annotated[str, typer.Option(help="Of lora, qlora, full.")] = "lora,qlora",
    batch_size: Annotated[int, typer.Option(help="Examples per step, one image each.")] = 1,
    text_tokens: Annotated[int, typer.Option(help="Tokens per example besides the image's.")] = 128,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    steps: Annotated[int, typer.Option(help="Measured steps.")] = 5,
    warmup: Annotated[int, typer.Option(help="Unmeasured steps before them.")] = 1,
    gradient_checkpointing: Annotated[bool, typer.Option(help="Recompute activations.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: PyTorch's choice]")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write every measurement here.")] = None,
) -> None:
    """Peak memory and speed of fine-tuning, each method in a process of its own."""
    from .benchmark import report
    from .benchmark import training as subject

    errors = Console(stderr=True)
    prepare_outputs(json_path)
    config = subject.TrainingBenchmarkConfig(
        model=model,
        methods=names_in(methods),  # type: ignore[arg-type]
        batch_size=batch_size,
        text_tokens=text_tokens,
        dtype=dtype,  # type: ignore[arg-type]
        steps=steps,
        warmup=warmup,
        gradient_checkpointing=gradient_checkpointing,
        threads=threads,
        device=device,
    )
    with errors.status("starting") as status:
        result = subject.run_training_benchmark(config, progress=status.update)
    report.print_training_benchmark(result, console())
    if json_path is not None:
        report.write_json(report.training_benchmark_dict(result), json_path)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="Folder or Hub id of any FastVLM checkpoint.")],
    tasks: Annotated[str, typer.Option(help="Of lmms-eval's tasks, or of those in --include-path, by commas.")],
    load_in_4bit: Annotated[bool, typer.Option("--load-in-4bit", help="The same as --quantization nf4.")] = False,
    quantization: Annotated[
        str | None, typer.Option(help="Of nf4, fp4, bnb-int8, int8, int8-dynamic: the decoder's weights.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="Folder or Hub id of a PEFT adapter to put on it.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images, pixels. [default: the checkpoint's]")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto, the checkpoint's.")] = "auto",
    static_cache: Annotated[bool, typer.Option("--static-cache", help="Keys and values in a fixed size.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="The encoder through torch.compile.")] = False,
    limit: Annotated[int | None, typer.Option(help="Documents per task. [default: all]")] = None,
    batch_size: Annotated[int, typer.Option(help="Prompts per call.")] = 1,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... [default: a GPU, if there is one]")
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Answers and samples go beside it; a second run goes on from them.")
    ] = Path("results.json"),
    include_path: Annotated[Path | None, typer.Option(help="Folder with more task definitions, YAML.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder to draw a picture into.")] = None,
) -> None:
    """Score a checkpoint on benchmarks, through lmms-eval. Several GPUs: accelerate launch -m transformers_fastvlm."""
    from .evaluation import plots, report, runner
    from .evaluation.answering import ModelOptions

    errors = Console(stderr=True)
    options = ModelOptions(
        pretrained=model,
        adapter=adapter,
        quantization="nf4" if load_in_4bit else quantization,
        dtype=dtype,
        resolution=resolution,
        static_cache=static_cache,
        compiled=compiled,
    )
    command = shlex.join(["fastvlm", *sys.argv[1:]])
    config = runner.EvaluationConfig(
        options, names_in(tasks), batch_size, limit, device, output, include_path, command
    )
    prepare_outputs(output, pictures, "--output")
    runner.quieten_harness()
    results = runner.run_evaluation(config)
    if results is None:
        return
    report.print_results(results, console())
    errors.print(f"Wrote {output}", markup=False)
    if pictures is not None:
        draw(plots.draw_results, [results], pictures, errors)


@app.command("report")
def report_command(
    results: Annotated[list[Path], typer.Argument(help="Files that `fastvlm evaluate` wrote.")],
    baseline: Annotated[Path | None, typer.Option(help="Results to compare the first with.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="With --baseline: points a score may fall.")] = 0.0,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to draw pictures into; of several, score over time to first token.")
    ] = None,
) -> None:
    """Tables and pictures of evaluations; with --baseline, fail if a score has fallen."""
    from .evaluation import comparison, plots, report

    errors = Console(stderr=True)
    read = [comparison.read_results(path) for path in results]
    found = comparison.differences(results[0], baseline) if baseline else []
    prepare_outputs(None, pictures)
    for each in read:
        report.print_results(each, console())
    if found:
        report.print_differences(found, console())
    if pictures is not None:
        draw(plots.draw_results, read, pictures, errors)
    if fallen := comparison.drops(found, tolerance):
        errors.print(f"Fallen by more than {tolerance} points:\n" + "\n".join(fallen), markup=False)
        raise typer.Exit(1)
