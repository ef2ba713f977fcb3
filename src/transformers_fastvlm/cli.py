# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
The `fastvlm` command: mounts those of the capabilities, each beside what it calls.

Neither they nor what they import at their top bring torch or transformers, so that help takes no seconds; see
`fastvlm_command`.
"""

from functools import partial
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .asking.command import ask, chat
from .benchmark.command import bench
from .evaluation.command import evaluate, report
from .export.command import export_command
from .programs.commands import end_after
from .publishing.command import publish_command
from .scripts.command import SETTINGS, finetune_command
from .serving.command import serve_command
from .training.command import data_command


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
app.command()(ask)
app.command()(chat)
app.add_typer(bench, name="bench")
app.command("data")(data_command)
app.command()(evaluate)
app.command()(report)
app.command("export")(export_command)
app.command("finetune", context_settings=SETTINGS)(finetune_command)
app.command("publish")(publish_command)
app.command("serve")(serve_command)


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
