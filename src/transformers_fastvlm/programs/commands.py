# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands of all capabilities share: how they end, lists in options, where results go, pictures."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console

from ..extras import require
from .mistakes import end_with_one_line, require_writable


def end_after(run: Callable[[], Any], program: str) -> NoReturn:
    """
    Run a typer command outside of its standalone mode, and end the process with its exit code.

    Where arguments or what they name are wrong, that is in one line on stderr, with exit code 2.
    """
    try:
        code = run()
    except typer.Abort:
        sys.exit(1)
    except Exception as error:
        if (message := getattr(error, "format_message", None)) is not None:  # typer's own
            context = getattr(error, "ctx", None)
            path = context.command_path if context else program
            print(f"{path}: error: {' '.join(message().split())} (--help lists the options)", file=sys.stderr)
            sys.exit(getattr(error, "exit_code", 2))
        end_with_one_line(error, program)
    sys.exit(code if isinstance(code, int) else 0)


def command_line() -> str:
    """What was typed into the shell for `fastvlm`."""
    return shlex.join(["fastvlm", *sys.argv[1:]])


def script_command_line() -> str:
    """What was typed into the shell for a script of this repository."""
    return shlex.join(["python", *sys.argv])


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
