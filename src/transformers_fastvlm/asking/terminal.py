# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Answers on a terminal, or wherever standard output goes."""

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def write(text: str, stream: TextIO | None = None) -> None:
    """Write a piece of an answer at once; to a terminal, without characters that would control it."""
    stream = stream or sys.stdout
    if stream.isatty():
        text = "".join(each for each in text if each in "\n\t" or unicodedata.category(each) != "Cc")
    stream.write(text)
    stream.flush()


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Ends the process in silence when what reads its output, such as `head`, has ended."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which the interpreter flushes at its end
        sys.exit(1)


def quieten() -> None:
    """Have transformers say nothing but errors, unless the environment says how much."""
    from transformers.utils import logging

    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
    logging.disable_progress_bar()
