# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The rows of a training: those that are trained on, those that it is evaluated on, and others mixed in."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..processing_fastvlm import FastVLMProcessor
from .arguments import DataArguments
from .data import ReadRow, RowReport, prepare_dataset, recognised_layout
from .rows import read_row

if TYPE_CHECKING:
    from datasets import Dataset

_SHUFFLED_AT_ONCE = 1000  # rows of a stream


@dataclass(frozen=True)
class RowSets:
    """
    Checked rows.

    Args:
        train: to train on.
        evaluation: `None` for a stream without a set of its own for it.
        report: of the rows to train on; of a stream, it grows as they are read.
    """

    train: Any
    evaluation: Dataset | None
    report: RowReport


def load_row_sets(
    data: DataArguments,
    processor: FastVLMProcessor,
    evaluation: DataArguments | float,
    tell: Callable[[str], object] = print,
    read: ReadRow = read_row,
) -> RowSets:
    """
    Load and check rows.

    Args:
        data: what is trained on.
        evaluation: other rows, or the share of the same ones that is kept for it.
        tell: gets a line on each set's layout and faulty rows.
        read: as of `prepare_dataset`.

    Raises:
        FileNotFoundError, ValueError: as `load_chat_dataset` and `prepare_dataset` do.
    """
    rows = data.load()
    held_out = None
    if isinstance(evaluation, DataArguments):
        held_out = evaluation.load()
    elif not data.streaming:
        if len(rows) < 2:
            raise ValueError(f"{data.dataset} has one row: there is none to evaluate on besides. Name --eval_dataset.")
        parts = rows.train_test_split(evaluation, seed=0)
        rows, held_out = parts["train"], parts["test"]
    checked = {}
    for name, each in (("train", rows), ("eval", held_out)):
        if each is not None:
            checked[name] = _checked(each, name, data, processor, tell, read)
    train, report = checked["train"]
    if data.streaming:
        train = train.shuffle(seed=0, buffer_size=_SHUFFLED_AT_ONCE)
    return RowSets(train, checked["eval"][0] if "eval" in checked else None, report)


def _checked(
    rows: Any,
    name: str,
    data: DataArguments,
    processor: FastVLMProcessor,
    tell: Callable[[str], object],
    read: ReadRow,
) -> tuple[Any, RowReport]:
    tell(f"{name}: {recognised_layout(rows, data.row_format)}")
    checked, report = prepare_dataset(rows, processor, data.row_format, data.faulty_rows, read)
    if report.checked:  # of a stream, none is yet
        tell(f"{name}: {report}")
    return checked, report


def with_replay(
    train: Any,
    replay: str,
    share: float,
    data: DataArguments,
    processor: FastVLMProcessor,
    tell: Callable[[str], object] = print,
) -> Any:
    """
    Rows to train on with others mixed in, so that what these taught is not forgotten.

    Args:
        train: the rows; not a stream.
        replay: file, folder or Hub id of the others; read in whichever layout they have.
        share: of all rows together that the others are; drawn at random, more than once where there are too few.
        data, processor, tell: as of `load_row_sets`.

    Raises:
        FileNotFoundError, ValueError: as of `load_row_sets`; if the rows are a stream.
    """
    from torch.utils.data import ConcatDataset

    if data.streaming:
        raise ValueError("--replay is for rows that are not streamed.")
    others = replace(data, dataset=replay, split="train", image_root=None, layout=None, max_samples=None)
    others = replace(others, messages_column=None, images_column=None)
    rows, _ = _checked(others.load(), "replay", others, processor, tell, read_row)
    count = max(1, round(len(train) * share / (1 - share)))
    whole, rest = divmod(count, len(rows))
    drawn = random.Random(0)
    indices = [*range(len(rows))] * whole + drawn.sample(range(len(rows)), rest)
    tell(f"replay: {count} of {len(rows)} rows, {count / (count + len(train)):.0%} of all that are trained on")
    return ConcatDataset([train, rows.select(indices)])
