# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Images by the names that are typed into a shell."""

import sys
from collections.abc import Sequence
from typing import BinaryIO

from PIL import Image

from ..image_reading import URL_BYTES, read_image

STDIN = "-"


def read_images(names: Sequence[str], stdin: BinaryIO | None = None) -> list[Image.Image]:
    """
    Args:
        names: paths, `http(s)` URLs, `data:` URIs, or `-`, once, for what comes from standard input.
        stdin: instead of the process's.

    Raises:
        OSError: if an image cannot be read; the message names it.
        ValueError: if nothing can come from standard input.
    """
    if names.count(STDIN) > 1:
        raise ValueError("`-` is standard input, which has one image only.")
    return [read_image(_read_stdin(stdin or sys.stdin.buffer) if name == STDIN else name) for name in names]


def _read_stdin(stdin: BinaryIO) -> bytes:
    if stdin.isatty():
        raise ValueError("`-` is an image from standard input, but that is a terminal: fastvlm ask - ... < image.png")
    data = stdin.read(URL_BYTES + 1)
    if not data:
        raise ValueError("`-` is an image from standard input, but nothing came from there.")
    if len(data) > URL_BYTES:
        raise ValueError(f"What comes from standard input has more than {URL_BYTES / 2**20:g} MiB.")
    return data
