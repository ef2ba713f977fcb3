# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A data set as training will see it: in numbers, and a few of its rows in a picture."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..processing_fastvlm import FastVLMProcessor
from ..programs.pictures import BLUE, GREY, write_picture
from .data import RowReport
from .rows import NO_LOSS, EncodedText, RowFormat, encode_row

_ROWS_DRAWN = 4
_CHARACTERS = 78  # of a line of a row's text
_LINES = 12


def report_lines(report: RowReport) -> Iterator[str]:
    """What there is to say of rows that were checked, line by line; at least one has stayed."""
    yield f"{report}."
    tokens = report.tokens
    yield (
        f"Tokens of a row: {min(tokens)} to {max(tokens)}, half have at most {quantile(tokens, 0.5)}, "
        f"95 % at most {quantile(tokens, 0.95)}."
    )
    numbers = ", ".join(f"{rows} with {count}" for count, rows in sorted(report.images.items()))
    yield f"Rows by their images: {numbers}."


def quantile(counts: Counter[int], share: float) -> int:
    """The least value that so large a share of the counted values does not exceed."""
    seen, whole = 0, sum(counts.values())
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * whole:
            return value
    raise ValueError("There is nothing to count.")


def draw_rows(rows: Sequence[dict[str, Any]], processor: FastVLMProcessor, row_format: RowFormat, path: Path) -> Path:
    """
    Draw rows: their images as the model gets them, and their prompt, with what is trained on in colour.

    Args:
        rows: that can be trained on; from the beginning, middle and end, some are drawn.
        processor: that reads them.
        row_format: they are read in.
        path: of the PNG file.
    """
    from matplotlib.figure import Figure

    count = min(_ROWS_DRAWN, len(rows))
    figure = Figure(figsize=(10, 2.6 * count), layout="constrained")
    grid = figure.subplots(count, 2, width_ratios=(1, 2.4), squeeze=False)
    for place, (picture, words) in enumerate(grid):
        picture.set_axis_off()
        words.set_axis_off()
        row = rows[place * (len(rows) - 1) // max(count - 1, 1)]
        text, pixels = encode_row(processor, row, row_format)
        if pixels is not None:
            # (crops, 3, R, R), values in 0..1, beside each other
            picture.imshow(pixels.permute(2, 0, 3, 1).flatten(1, 2).clamp(0, 1).numpy())
            picture.set_title(f"{len(pixels)} × {pixels.shape[-1]}²", fontsize=8)
        _write_text(words, processor, text)
    figure.suptitle("As the model sees them; trained on is what is blue", fontsize=10)
    return write_picture(figure, path)


def _write_text(axis: Any, processor: FastVLMProcessor, text: EncodedText) -> None:
    lines = list(_lines(processor, text))
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], ("…", GREY)]
    for index, (line, colour) in enumerate(lines):
        place = {"x": 0.0, "y": 1 - index / _LINES, "transform": axis.transAxes}
        axis.text(s=line.replace("$", r"\$"), color=colour, fontsize=8, family="monospace", va="top", **place)


def _lines(processor: FastVLMProcessor, text: EncodedText) -> Iterator[tuple[str, str]]:
    """Lines of a row with their colour: what is trained on stands alone."""
    pairs = zip(text.input_ids, text.labels)
    for is_learnt, run in groupby(pairs, lambda pair: pair[1] != NO_LOSS):
        words = ""
        for is_image, tokens in groupby((token for token, _ in run), lambda token: token == processor.image_token_id):
            ids = list(tokens)
            words += f"[{len(ids)} visual tokens]" if is_image else processor.tokenizer.decode(ids)
        for line in words.strip("\n").split("\n"):
            for part in textwrap.wrap(line, _CHARACTERS, drop_whitespace=False) or [""]:
                yield part, BLUE if is_learnt else GREY
