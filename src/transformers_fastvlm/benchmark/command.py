# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm bench`. Nothing that takes time is imported before it runs, so that help comes at once."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..programs.options import fills
from .configurations import EncoderBenchmarkConfig, TrainingBenchmarkConfig, TtftBenchmarkConfig

JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write every measurement here.")]
PicturesOption = Annotated[Path | None, typer.Option(help="Folder to draw pictures into.")]

bench = typer.Typer(help="Time FastVLM on this machine.", invoke_without_command=True)


@bench.callback()
def main(context: typer.Context) -> None:
    """Time FastVLM on this machine."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _command() -> str:
    return shlex.join(["fastvlm", *sys.argv[1:]])


@bench.command()
@fills(EncoderBenchmarkConfig)
def encoder(config: EncoderBenchmarkConfig, json_path: JsonOption = None, pictures: PicturesOption = None) -> None:
    """Latency of the vision encoder, and of the same in other runtimes, taking turns in one process."""
    from .kinds import ENCODER

    ENCODER.measure(config, _command(), json_path, pictures)


@bench.command()
@fills(TtftBenchmarkConfig)
def ttft(config: TtftBenchmarkConfig, json_path: JsonOption = None, pictures: PicturesOption = None) -> None:
    """Time from image file to first token, stage by stage, each way in a process of its own."""
    from .kinds import TTFT

    TTFT.measure(config, _command(), json_path, pictures)


@bench.command()
@fills(TrainingBenchmarkConfig)
def train(config: TrainingBenchmarkConfig, json_path: JsonOption = None) -> None:
    """Peak memory and speed of fine-tuning, each method in a process of its own."""
    from .kinds import TRAIN

    TRAIN.measure(config, _command(), json_path)
