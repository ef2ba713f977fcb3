# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Chat data sets: where they come from, and which of their rows can be trained on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..processing_fastvlm import FastVLMProcessor
from .processes import process_state
from .rows import Reason, RowError, RowFormat, read_row
from .sources import (
    FAULT_COLUMN,
    LINE_COLUMN,
    UNITS,
    JsonLines,
    absolute_paths,
    is_json_array,
    numbered,
    place_column,
)

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

logger = logging.getLogger(__name__)
_WHAT = {
    "json": "no JSON object",
    "image": "a missing or unreadable image",
    "messages": "no readable conversation",
    "assistant": "no assistant turn",
    "placeholders": "not as many placeholders as images",
    "length": "too many tokens",
}
_ROWS_NAMED = 5
# Of rows that may each have other columns, so many are looked at for those that are wanted.
_ROWS_SEARCHED = 1000


class MissingColumnError(KeyError, ValueError):
    """A data set has no column of the name that was given."""

    def __str__(self) -> str:
        return self.args[0]


@dataclass
class RowReport:
    """What checking a data set found. For streamed ones it grows while they are read, in each process that reads.

    Rows are named by their place in the source, whatever was split off or shuffled since: the line, from 1, in a JSONL
    file; else the row, from 0, which a stream of several files gives as `"3 of file 2"`.

    Attributes:
        checked: rows looked at.
        left_out: places of the rows left out, by reason.
        shortened: places of the rows whose end is cut off.
        unit: what the places count, `"line"` or `"row"`.
    """

    checked: int = 0
    left_out: dict[Reason, list[int | str]] = field(default_factory=dict)
    shortened: list[int | str] = field(default_factory=list)
    unit: str = "row"

    def __str__(self) -> str:
        count = sum(len(rows) for rows in self.left_out.values())
        parts = [f"{self.checked} rows, {count} left out"]
        parts += [f"{len(rows)} with {_WHAT[reason]} ({self._some(rows)})" for reason, rows in self.left_out.items()]
        if self.shortened:
            parts.append(f"{len(self.shortened)} shortened ({self._some(self.shortened)})")
        return ", ".join(parts)

    def _some(self, rows: list[int | str]) -> str:
        named = f"{self.unit}s {', '.join(map(str, rows[:_ROWS_NAMED]))}"
        return f"{named}, …" if len(rows) > _ROWS_NAMED else named


def load_chat_dataset(
    source: str | Path, split: str = "train", streaming: bool = False, images_column: str | None = "images", **kwargs
) -> Dataset | IterableDataset:
    """
    A data set from the Hub or from files, whose rows keep their place in the source in a column, `source_line` or
    `source_row`.

    Args:
        source: a Hub id; a folder that `datasets` knows how to read, or that `save_to_disk` wrote; or a file with a
            JSON object per line, or one JSON array of them, whose images are paths relative to its folder. Lines are
            read one by one: those without an object are faulty rows, and no two need have the same types.
        split: which part.
        streaming: read while training, for data larger than the disk.
        images_column: where a JSON file has its images.
        **kwargs: further arguments of `datasets.load_dataset`, such as `name` or `revision`.

    Raises:
        FileNotFoundError: if `source` looks like a path and is not there.
        ValueError: if a file is empty, or `kwargs` are given that mean nothing for it.
    """
    from datasets import DatasetDict, load_dataset, load_from_disk

    path = Path(source)
    if path.suffix in (".jsonl", ".json"):
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        if not is_json_array(path):
            return _load_lines(JsonLines(path.resolve(), images_column), streaming, kwargs)
        rows = load_dataset("json", data_files={split: str(path)}, split=split, streaming=streaming, **kwargs)
        if images_column:
            rows = rows.map(partial(_with_absolute_paths, folder=path.parent.resolve(), column=images_column))
        return numbered(rows)
    if path.is_absolute() and not path.exists():
        raise FileNotFoundError(f"There is no folder {path}.")
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        stored = load_from_disk(path)
        if isinstance(stored, DatasetDict) and split not in stored:
            raise ValueError(f"{path} has no split {split!r}; it has {', '.join(stored)}.")
        dataset: Dataset = numbered(stored[split] if isinstance(stored, DatasetDict) else stored)
        return dataset.to_iterable_dataset() if streaming else dataset
    return numbered(load_dataset(str(source), split=split, streaming=streaming, **kwargs))


def _load_lines(lines: JsonLines, streaming: bool, kwargs: dict[str, Any]) -> Dataset | IterableDataset:
    if kwargs:
        raise ValueError(f"{', '.join(kwargs)} cannot be given for a file of JSON lines.")
    if next(lines.rows(), None) is None:
        raise ValueError(f"{lines.path} has no rows.")
    return lines.stream() if streaming else lines.dataset()


def _with_absolute_paths(row: dict[str, Any], folder: Path, column: str) -> dict[str, Any]:
    return {column: absolute_paths(row[column], folder)} if column in row else {}


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
        report, which says by its place in the source what was left out or shortened. Under `accelerate` or `torchrun`,
        the processes share the work of checking, and each gets the whole report.

    Raises:
        MissingColumnError: if the data set has no such columns; the message names those that it has.
        RowError: naming the row, with `faulty_rows="stop"`.
        ValueError: if no row is left.
    """
    from datasets import IterableDataset

    row_format = row_format or RowFormat()
    if faulty_rows not in ("stop", "skip"):
        raise ValueError(f"`faulty_rows` is 'stop' or 'skip', not {faulty_rows!r}.")
    dataset = _needed_columns(dataset, row_format)
    check = _RowCheck(processor, row_format, skip=faulty_rows == "skip")
    if isinstance(dataset, IterableDataset):
        return dataset.filter(check), check.report
    kept = check.all_of(dataset)
    if not kept:
        raise ValueError(f"There is nothing to train on: {check.report}.")
    return (dataset if len(kept) == len(dataset) else dataset.select(kept)), check.report


def _needed_columns(dataset, row_format: RowFormat):
    """The data set with the format's columns and the rows' places alone, images as stored."""
    import datasets

    wanted = [name for name in (row_format.messages_column, row_format.images_column) if name]
    names = _column_names(dataset, wanted)
    if missing := [name for name in wanted if name not in names]:
        raise MissingColumnError(
            f"The data set has no column {' and no column '.join(map(repr, missing))}; it has "
            f"{', '.join(repr(name) for name in names if name not in UNITS)}. Name the right ones in "
            "`messages_column` and `images_column`; `images_column=None` trains on text alone."
        )
    if LINE_COLUMN in names:
        return dataset
    place = place_column(names)
    dataset = dataset.select_columns([*wanted, place] if place else wanted)
    if dataset.features and row_format.images_column:
        # Decoded in the collator's process, where a damaged one can be told from a programming error.
        undecoded = datasets.Image(decode=False)
        feature = dataset.features[row_format.images_column]
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(row_format.images_column, undecoded)
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            dataset = dataset.cast_column(row_format.images_column, datasets.List(undecoded))
    # Processes that share a stream would each count what they read themselves.
    return numbered(dataset) if isinstance(dataset, datasets.IterableDataset) and place is None else dataset


def _column_names(dataset, wanted: list[str]) -> list[str]:
    """Names of the columns; of rows that may each have others, of as many as have the wanted ones together.

    If no row can be read, the wanted ones are taken for granted.
    """
    if dataset.features and LINE_COLUMN not in dataset.features:
        return list(dataset.features)
    names: dict[str, None] = {}
    for row in islice(dataset, _ROWS_SEARCHED):
        if not row.get(FAULT_COLUMN):
            names |= dict.fromkeys(row)
            if names.keys() >= set(wanted):
                break
    return list(names or [*wanted, LINE_COLUMN])


class _RowCheck:
    """Says of rows whether they can be trained on, and keeps the report."""

    def __init__(self, processor: FastVLMProcessor, row_format: RowFormat, skip: bool):
        self.processor, self.row_format, self.skip = processor, row_format, skip
        self.report = RowReport()

    def __call__(self, row: dict[str, Any], index: int = 0) -> bool:
        """Whether a row stays; `index` is its place if the row does not say."""
        column = place_column(list(row))
        place = row[column] if column else index
        self.report.unit = UNITS[column] if column else "row"
        self.report.checked += 1
        try:
            text, _ = read_row(self.processor, row, self.row_format)
        except RowError as error:
            named = f"{self.report.unit} {place}"
            if not self.skip:
                raise RowError(f"{named.capitalize()}: {error}", error.reason) from error
            logger.warning("Left out %s: %s", named, error)
            self.report.left_out.setdefault(error.reason, []).append(place)
            return False
        if text.shortened:
            self.report.shortened.append(place)
        return True

    def all_of(self, dataset: Dataset) -> list[int]:
        """The rows to keep, in order. Every process checks its share."""
        from accelerate.utils import gather_object
        from tqdm.auto import tqdm

        state = process_state()
        mine = range(state.process_index, len(dataset), state.num_processes)
        problem: tuple[int, RowError] | None = None
        kept = []
        for index in tqdm(mine, desc="checking rows", disable=not state.is_local_main_process):
            try:
                if self(dataset[index], index):
                    kept.append(index)
            except RowError as error:  # the others wait for this process
                problem = index, error
                break
        shares = gather_object([(kept, self.report, problem)])
        self.report = _merged([report for _, report, _ in shares])
        if problems := [problem for *_, problem in shares if problem is not None]:
            _, first = min(problems, key=lambda problem: problem[0])
            raise first
        return sorted(index for kept, *_ in shares for index in kept)


def _merged(reports: list[RowReport]) -> RowReport:
    unit = next((report.unit for report in reports if report.checked), "row")
    merged = RowReport(sum(report.checked for report in reports), unit=unit)
    for report in reports:
        merged.shortened += report.shortened
        for reason, rows in report.left_out.items():
            merged.left_out.setdefault(reason, []).extend(rows)
    for rows in (merged.shortened, *merged.left_out.values()):
        rows.sort(key=lambda place: (str(type(place)), place))
    return merged
