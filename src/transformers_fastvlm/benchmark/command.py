# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm bench`. Nothing that takes time is imported before it runs, so that help comes at once."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..programs.commands import console, draw, integers_in, names_in, prepare_outputs

bench = typer.Typer(help="Time FastVLM beside other ways to run it.", invoke_without_command=True)


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
    from . import report, targets

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
    from . import encoder as subject
    from . import plots, report
    from .settings import MissingPeerError

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
    from . import plots, report
    from . import ttft as subject

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
    from . import report
    from . import training as subject

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
