# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the scripts of this folder share: their start, and options that `fastvlm bench` has not."""

import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import typer

from transformers_fastvlm.benchmark.command import JsonOption, PicturesOption
from transformers_fastvlm.benchmark.configurations import require_known
from transformers_fastvlm.programs.commands import end_after, names_in, script_command_line

__all__ = ["JsonOption", "PicturesOption", "named", "run_script", "script_command_line"]

Subject = TypeVar("Subject")


def named(names: str, known: Mapping[str, Subject]) -> tuple[Subject, ...]:
    """The peers of a comma-separated list.

    Raises:
        ValueError: if a name is not known.
    """
    chosen = names_in(names)
    require_known("peer", chosen, known)
    return tuple(known[name] for name in chosen)


def run_script(main: Callable[..., None]) -> None:
    """Run it on the arguments of the shell; a user's mistake ends in one line and exit code 2."""
    app = typer.Typer(add_completion=False)
    app.command()(main)
    program = f"python {sys.argv[0]}"
    end_after(lambda: app(prog_name=program, standalone_mode=False), program)
