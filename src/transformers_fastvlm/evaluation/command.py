# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm evaluate` and `fastvlm report`. Nothing that takes time is imported before they run."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..inference.model_options import ModelOptions
from ..programs.commands import command_line, console, draw, prepare_outputs
from ..programs.options import filled, with_options_of
from .configuration import EvaluationConfig, RowEvaluationConfig


@with_options_of(ModelOptions)
@with_options_of(EvaluationConfig, commas=True, optional=["tasks"])
@with_options_of(RowEvaluationConfig, optional=["data"], without=["batch_size", "limit", "device", "output"])
def evaluate(
    load_in_4bit: Annotated[bool, typer.Option("--load-in-4bit", help="The same as --quantization nf4.")] = False,
    pictures: Annotated[Path | None, typer.Option(help="Folder to draw a picture into.")] = None,
    **options: Any,
) -> None:
    """Score a checkpoint on benchmarks, through lmms-eval, or with --data on rows of one's own.

    Several GPUs: accelerate launch -m transformers_fastvlm evaluate, with the same options.
    """
    errors = Console(stderr=True)
    model = filled(ModelOptions, options)
    if load_in_4bit:
        model = replace(model, quantization="nf4")
    if (options["data"] is None) == (options["tasks"] is None):
        raise typer.BadParameter("Give either --tasks or --data.")
    own = options["data"] is not None
    config: Any = filled(
        RowEvaluationConfig if own else EvaluationConfig, options, model=model, command=command_line()
    )
    prepare_outputs(config.output, pictures, "--output")
    from . import own_rows, plots, runner
    from .report import print_results

    if own:
        results = own_rows.evaluate_rows(config)
    else:
        runner.quieten_harness()
        results = runner.run_evaluation(config)
    if results is None:
        return
    print_results(results, console())
    errors.print(f"Wrote {config.output}", markup=False)
    if pictures is not None:
        draw(plots.draw_results, [results], pictures, errors)


def report(
    results: Annotated[list[Path], typer.Argument(help="Files that `fastvlm evaluate` wrote.")],
    baseline: Annotated[Path | None, typer.Option(help="Results to compare the first with.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="With --baseline: points a score may fall.")] = 0.0,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to draw pictures into; of several, score over time to first token.")
    ] = None,
) -> None:
    """Tables and pictures of evaluations; with --baseline, fail if a score has fallen."""
    from . import comparison, plots
    from .report import print_differences, print_results

    errors = Console(stderr=True)
    read = [comparison.read_results(path) for path in results]
    found = comparison.differences(results[0], baseline) if baseline else []
    prepare_outputs(None, pictures)
    for each in read:
        print_results(each, console())
    if found:
        print_differences(found, console())
    if pictures is not None:
        draw(plots.draw_results, read, pictures, errors)
    if fallen := comparison.drops(found, tolerance):
        errors.print(f"Fallen by more than {tolerance} points:\n" + "\n".join(fallen), markup=False)
        raise typer.Exit(1)
