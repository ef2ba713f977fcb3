# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
The `fastvlm` command: mounts those of the capabilities, each beside what it calls.

Neither they nor what they import at their top bring torch or transformers, so that help takes no seconds; see
`fastvlm_command`.
"""

import shlex
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from .benchmark.command import bench
from .programs.commands import console, draw, end_after, names_in, prepare_outputs
from .publishing.command import publish_command


class OneLineErrors(TyperGroup):
    """Ends in one line on stderr, with exit code 2, where arguments or what they name are wrong."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **kwargs)
        end_after(partial(super().main, *args, standalone_mode=False, **kwargs), "fastvlm")


app = typer.Typer(
    cls=OneLineErrors,
    help="FastVLM for Hugging Face Transformers.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.command("publish")(publish_command)


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
    from .inference.model_options import ModelOptions

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
