# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A user's mistakes: checks that find them early, and the one line in which a command or script ends with them."""

import argparse
import dis
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

# In the environment, set to anything: tracebacks of mistakes too.
TRACEBACK = "FASTVLM_TRACEBACK"
EXIT_CODE = 2
# Errors of what was read, or of too little memory, that are none of Python's own kinds; where they are defined.
_OTHER_KINDS = (
    ("PIL.Image", "DecompressionBombError"),
    ("httpx", "HTTPError"),
    ("safetensors", "SafetensorError"),
    ("torch", "OutOfMemoryError"),
)


def is_users_mistake(error: BaseException) -> bool:
    """
    Whether an error is of what a program was given, or runs on, rather than of the program.

    Such are all errors of files, what is in them, the network and memory; a library that is not installed; and a
    `ValueError` or `ImportError` that some code raises on purpose, by a `raise` statement, to say what is wrong, and
    not Python itself on `int("x")` or `a, b = 1, 2, 3`.
    """
    if isinstance(error, (OSError, MemoryError, UnicodeError, json.JSONDecodeError)):
        return True
    if isinstance(error, (ValueError, ImportError)):
        return _raised_on_purpose(error) or _missing_library(error) is not None
    kinds = (getattr(sys.modules.get(module), name, None) for module, name in _OTHER_KINDS)
    return isinstance(error, tuple(kind for kind in kinds if kind is not None))


def _raised_on_purpose(error: BaseException) -> bool:
    trace = error.__traceback__
    if trace is None:
        return True
    while trace.tb_next is not None:
        trace = trace.tb_next
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _missing_library(error: BaseException) -> str | None:
    """The library that an import did not find; `None` where it is there, and a part of it is not."""
    name = isinstance(error, ModuleNotFoundError) and error.name
    library = name.partition(".")[0] if name else ""
    return library if library and find_spec(library) is None else None


def in_one_line(error: BaseException) -> str:
    """What is wrong, without line breaks."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    elif not _raised_on_purpose(error) and (library := _missing_library(error)) is not None:
        text = f"{library} is not installed."
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def end_with_one_line(error: Exception, program: str) -> NoReturn:
    """
    End the process with exit code 2 and one line on stderr, if the error is a user's mistake.

    Raises:
        Exception: the error, if it is another one, or `FASTVLM_TRACEBACK` is set.
    """
    if os.environ.get(TRACEBACK) or not is_users_mistake(error):
        raise error
    print(f"{program}: error: {in_one_line(error)} ({TRACEBACK}=1 shows where)", file=sys.stderr)
    sys.exit(EXIT_CODE)


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """For the `main` of a script: a user's mistake, or what an argument parser complains of, ends in one line."""
    program = Path(sys.argv[0]).name
    with parsers_in_one_line():
        try:
            yield
        except Exception as error:
            end_with_one_line(error, program)


@contextmanager
def parsers_in_one_line() -> Iterator[None]:
    """Argument parsers complain without the usage, which has hundreds of lines for all of `TrainingArguments`."""

    def error(self: argparse.ArgumentParser, message: str) -> NoReturn:
        self.exit(EXIT_CODE, f"{self.prog}: error: {' '.join(message.split())} (--help lists the options)\n")

    usual = argparse.ArgumentParser.error
    argparse.ArgumentParser.error = error  # type: ignore[method-assign]
    try:
        yield
    finally:
        argparse.ArgumentParser.error = usual  # type: ignore[method-assign]


def at_least(least: int) -> Callable[[str], int]:
    """A `type` of argument parsers: whole numbers from `least` on."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number.") from error
        if value < least:
            raise argparse.ArgumentTypeError(f"it must be at least {least}, not {value}.")
        return value

    return number


def require_device(device: Any) -> None:
    """
    Raises:
        ValueError: if PyTorch cannot use the device.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"Device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error


def require_writable(path: Path, option: str) -> None:
    """
    Raises:
        ValueError: if no file can be written at `path`, which an option named; before anything is done in vain.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"{option}: there is no folder {folder}.")
    if path.is_dir():
        raise ValueError(f"{option}: {path} is a folder, not a file.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise ValueError(f"{option}: {path} cannot be written.")
