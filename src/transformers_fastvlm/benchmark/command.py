# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm bench`. Nothing that takes time is imported before it runs, so that help comes at once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..programs.commands import command_line
from ..programs.options import filled, with_options_of
from .configurations import EncoderBenchmarkConfig, TrainingBenchmarkConfig, TtftBenchmarkConfig

JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write every measurement here.")]
PicturesOption = Annotated[Path | None, typer.Option(help="Folder to draw pictures into.")]

bench = typer.Typer(help="Time FastVLM on this machine.", invoke_without_command=True)


@bench.callback()
def main(context: typer.Context) -> None:
    """Time FastVLM on this machine."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@bench.command()
@with_options_of(EncoderBenchmarkConfig, commas=True)
def encoder(json_path: JsonOption = None, pictures: PicturesOption = None, **options: Any) -> None:
    """Latency of the vision encoder, and of the same in other runtimes, taking turns in one process."""
    from .kinds import ENCODER

    ENCODER.measure(filled(EncoderBenchmarkConfig, options), command_line(), json_path, pictures)


@bench.command()
@with_options_of(TtftBenchmarkConfig, commas=True)
def ttft(json_path: JsonOption = None, pictures: PicturesOption = None, **options: Any) -> None:
    """Time from image file to first token, stage by stage, each way in a process of its own."""
    from .kinds import TTFT

    TTFT.measure(filled(TtftBenchmarkConfig, options), command_line(), json_path, pictures)


@bench.command()
@with_options_of(TrainingBenchmarkConfig, commas=True)
def train(json_path: JsonOption = None, **options: Any) -> None:
    """Peak memory and speed of fine-tuning, each method in a process of its own."""
    from .kinds import TRAIN

    TRAIN.measure(filled(TrainingBenchmarkConfig, options), command_line(), json_path)
