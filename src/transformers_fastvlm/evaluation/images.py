# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Images that cannot be read, which count as questions answered wrongly instead of ending the evaluation."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image, ImageFile

# Kept by `convert`, `copy`, `crop` and `resize`, through which tasks pass their images.
_MARK = "unreadable"


@contextmanager
def pil_as_it_was() -> Iterator[None]:
    """For imports of lmms-eval, which from then on has PIL read images that are cut short, in the whole process."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def blank_for_unreadable() -> Iterator[None]:
    """
    While it is entered, data sets give a marked blank image where one is broken or missing.

    One that is cut short is shown as far as it goes, as lmms-eval has PIL do.

    lmms-eval reads images in many places, its tasks' constructors among them, so it is the reading that must bear it.
    """
    import datasets

    decode = datasets.Image.decode_example

    def decode_or_blank(self: Any, value: dict, *args: Any, **kwargs: Any) -> Image.Image:
        try:
            return decode(self, value, *args, **kwargs)
        # PIL raises SyntaxError for some broken PNG files, and its own class for images that are bombs.
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            blank = Image.new("RGB", (64, 64))
            blank.info[_MARK] = True
            return blank

    with pil_as_it_was():
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        datasets.Image.decode_example = decode_or_blank
        try:
            yield
        finally:
            datasets.Image.decode_example = decode


def any_unreadable(images: Iterable[Image.Image]) -> bool:
    """Whether one of the images is such a blank."""
    return any(image.info.get(_MARK, False) for image in images)
