# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Chat data sets: where they come from, and which of their rows can be trained on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..processing_fastvlm import FastVLMProcessor
from .rows import Reason, RowError, RowFormat, read_row

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

logger = logging.getLogger(__name__)
_WHAT = {
    "image": "a missing or unreadable image",
    "messages": "no readable conversation",
    "assistant": "no assistant turn",
    "placeholders": "not as many placeholders as images",
    "length": "too many tokens",
}
_ROWS_NAMED = 5


@dataclass
class RowReport:
    """What checking a data set found. For streamed ones it grows while they are read, in each process that reads.

    Attributes:
        checked: rows looked at.
        left_out: numbers of the rows left out, from 0, by reason.
        shortened: numbers of the rows whose end is cut off.
    """

    checked: int = 0
    left_out: dict[Reason, list[int]] = field(default_factory=dict)
    shortened: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        count = sum(len(rows) for rows in self.left_out.values())
        parts = [f"{self.checked} rows, {count} left out"]
        parts += [f"{len(rows)} with {_WHAT[reason]} (rows {_some(rows)})" for reason, rows in self.left_out.items()]
        if self.shortened:
            parts.append(f"{len(self.shortened)} shortened (rows {_some(self.shortened)})")
        return ", ".join(parts)


def load_chat_dataset(
    source: str | Path, split: str = "train", streaming: bool = False, images_column: str | None = "images", **kwargs
) -> Dataset | IterableDataset:
    """
    A data set from the Hub or from files.

    Args:
        source: a Hub id; a folder that `datasets` knows how to read, or that `save_to_disk` wrote; or a JSONL file,
            whose images are paths relative to its folder.
        split: which part.
        streaming: read while training, for data larger than the disk.
        images_column: where a JSONL file has its images.
        **kwargs: further arguments of `datasets.load_dataset`, such as `name` or `revision`.

    Raises:
        FileNotFoundError: if `source` looks like a path and is not there.
    """
    from datasets import DatasetDict, load_dataset, load_from_disk

    path = Path(source)
    if path.suffix in (".jsonl", ".json"):
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        rows = load_dataset("json", data_files={split: str(path)}, split=split, streaming=streaming, **kwargs)
        return rows.map(_RelativePaths(path.parent.resolve(), images_column)) if images_column else rows
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        stored = load_from_disk(path)
        dataset: Dataset = stored[split] if isinstance(stored, DatasetDict) else stored
        return dataset.to_iterable_dataset() if streaming else dataset
    return load_dataset(str(source), split=split, streaming=streaming, **kwargs)


@dataclass(frozen=True)
class _RelativePaths:
    """Makes the paths in a row's image column absolute, where such files exist."""

    folder: Path
    column: str

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {self.column: self._absolute(row[self.column])} if self.column in row else {}

    def _absolute(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._absolute(each) for each in value]
        if isinstance(value, str) and (self.folder / value).is_file():
            return str(self.folder / value)
        return value


def prepare_dataset(
    dataset: Dataset | IterableDataset,
    processor: FastVLMProcessor,
    row_format: RowFormat | None = None,
    faulty_rows: Literal["stop", "skip"] = "stop",
) -> tuple[Dataset | IterableDataset, RowReport]:
    """
    Find the rows that cannot be trained on before the training does: all at once, or, of a stream, as they come.

    Args:
        processor: counts the tokens.
        row_format: the columns, and how long an example may be.
        faulty_rows: `"stop"` raises at the first, `"skip"` leaves them out and counts them.

    Returns:
        the rows to train on, with their images undecoded and without the columns that training does not need; and a
        report, which says by number what was left out or shortened. Under `accelerate` or `torchrun`, the processes
        share the work of checking, and each gets the whole report.

    Raises:
        KeyError: if the data set has no such columns; the message names those that it has.
        RowError: naming the row, with `faulty_rows="stop"`.
    """
    from datasets import IterableDataset

    row_format = row_format or RowFormat()
    if faulty_rows not in ("stop", "skip"):
        raise ValueError(f"`faulty_rows` is 'stop' or 'skip', not {faulty_rows!r}.")
    dataset = _needed_columns(dataset, row_format)
    check = _RowCheck(processor, row_format, skip=faulty_rows == "skip")
    if isinstance(dataset, IterableDataset):
        return dataset.filter(check, with_indices=True), check.report
    kept = check.all_of(dataset)
    return (dataset if len(kept) == len(dataset) else dataset.select(kept)), check.report


def _needed_columns(dataset, row_format: RowFormat):
    """The data set with the format's columns alone, images as stored."""
    import datasets

    wanted = [name for name in (row_format.messages_column, row_format.images_column) if name]
    features = dataset.features
    names = list(features) if features else list(next(iter(dataset)))
    if missing := [name for name in wanted if name not in names]:
        raise KeyError(
            f"The data set has no column {' and no column '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, names))}. Name the right ones in `messages_column` and `images_column`; "
            "`images_column=None` trains on text alone."
        )
    dataset = dataset.select_columns(wanted)
    if features and row_format.images_column:
        # Decoded in the collator's process, where a damaged one can be told from a programming error.
        undecoded = datasets.Image(decode=False)
        feature = features[row_format.images_column]
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(row_format.images_column, undecoded)
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            dataset = dataset.cast_column(row_format.images_column, datasets.List(undecoded))
    return dataset


class _RowCheck:
    """Says of rows whether they can be trained on, and keeps the report."""

    def __init__(self, processor: FastVLMProcessor, row_format: RowFormat, skip: bool):
        self.processor, self.row_format, self.skip = processor, row_format, skip
        self.report = RowReport()

    def __call__(self, row: dict[str, Any], index: int) -> bool:
        self.report.checked += 1
        try:
            text, _ = read_row(self.processor, row, self.row_format)
        except RowError as error:
            if not self.skip:
                raise RowError(f"Row {index}: {error}", error.reason) from error
            logger.warning("Left out row %d: %s", index, error)
            self.report.left_out.setdefault(error.reason, []).append(index)
            return False
        if text.shortened:
            self.report.shortened.append(index)
        return True

    def all_of(self, dataset: Dataset) -> list[int]:
        """The rows to keep, in order. Every process checks its share."""
        from accelerate import PartialState
        from accelerate.utils import gather_object
        from tqdm.auto import tqdm

        state = PartialState()
        mine = range(state.process_index, len(dataset), state.num_processes)
        problem: RowError | None = None
        kept = []
        for index in tqdm(mine, desc="checking rows", disable=not state.is_local_main_process):
            try:
                if self(dataset[index], index):
                    kept.append(index)
            except RowError as error:  # the others wait for this process
                problem = error
                break
        shares = gather_object([(kept, self.report, problem)])
        self.report = _merged([report for _, report, _ in shares])
        if problems := [problem for *_, problem in shares if problem is not None]:
            raise problems[0]
        return sorted(index for kept, *_ in shares for index in kept)


def _merged(reports: list[RowReport]) -> RowReport:
    merged = RowReport(checked=sum(report.checked for report in reports))
    for report in reports:
        merged.shortened += report.shortened
        for reason, rows in report.left_out.items():
            merged.left_out.setdefault(reason, []).extend(rows)
    merged.shortened.sort()
    for rows in merged.left_out.values():
        rows.sort()
    return merged


def _some(rows: list[int]) -> str:
    named = ", ".join(map(str, rows[:_ROWS_NAMED]))
    return f"{named}, …" if len(rows) > _ROWS_NAMED else named
