# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Chat data sets: where they come from, and which of their rows can be trained on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image

from ..processing_fastvlm import FastVLMProcessor
from .layouts import KNOWN_COLUMNS, Reason, RowError, find_columns, taken_apart
from .processes import process_state
from .row_images import ROOT_COLUMN
from .rows import EncodedText, RowFormat, read_row
from .sources import (
    FAULT_COLUMN,
    LINE_COLUMN,
    UNITS,
    JsonArray,
    JsonLines,
    is_json_array,
    is_read_row_by_row,
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


ReadRow = Callable[[FastVLMProcessor, dict[str, Any], RowFormat], tuple[EncodedText, list[PIL.Image.Image]]]


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
        tokens: how many rows that stay have so many tokens, visual ones included.
        images: how many rows that stay have so many images.
    """

    checked: int = 0
    left_out: dict[Reason, list[int | str]] = field(default_factory=dict)
    shortened: list[int | str] = field(default_factory=list)
    unit: str = "row"
    tokens: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)

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
    source: str | Path,
    split: str = "train",
    streaming: bool = False,
    image_root: str | Path | None = None,
    **kwargs,
) -> Dataset | IterableDataset:
    """
    A data set from files or the Hub. Its rows keep their place in the source in a column, `source_line` or
    `source_row`, and the folder that their images are in, in `source_root`.

    Args:
        source: a file: JSON objects, one per line or in one array; CSV, TSV, Parquet; shards of WebDataset (`.tar`).
            A folder of such files, of images with their metadata, or that `save_to_disk` wrote. Or a Hub id. JSON is
            read object by object: what is none is a faulty row, and no two need have the same types.
        split: which part.
        streaming: read while training, for data larger than the disk.
        image_root: folder that images' paths are relative to; by default the file's, or the folder itself.
        **kwargs: further arguments of `datasets.load_dataset`, such as `name` or `revision`.

    Raises:
        FileNotFoundError: if `source` looks like a path and is not there, or is neither a folder nor a data set of the
            Hub.
        ValueError: if a file is empty or no such file, or `kwargs` are given that mean nothing for it.
    """
    from datasets import DatasetDict, load_from_disk
    from datasets.exceptions import DatasetNotFoundError

    path = Path(source).expanduser()
    if not path.exists() and (path.is_absolute() or path.suffix in _FILES or str(source).startswith((".", "~"))):
        raise FileNotFoundError(f"There is no {'file' if path.suffix in _FILES else 'folder'} {path}.")
    if image_root is not None and not Path(image_root).is_dir():
        raise FileNotFoundError(f"There is no folder {image_root} of images.")
    root = str(Path(image_root or (path if path.is_dir() else path.parent)).resolve())
    if path.is_file():
        return _load_file(path, split, streaming, root, kwargs)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        stored = load_from_disk(path)
        if isinstance(stored, DatasetDict) and split not in stored:
            raise ValueError(f"{path} has no split {split!r}; it has {', '.join(stored)}.")
        dataset: Dataset = numbered(stored[split] if isinstance(stored, DatasetDict) else stored, root)
        return dataset.to_iterable_dataset() if streaming else dataset
    if path.is_dir():
        shards = sorted(map(str, path.glob("*.tar")))
        files = {"data_files": {split: shards}} if shards else {}
        return _load("webdataset" if shards else str(path), split, streaming, root, {**kwargs, **files})
    try:  # paths in it lead nowhere but to what `datasets` has stored
        return _load(str(source), split, streaming, str(Path(image_root).resolve()) if image_root else "", kwargs)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(f"There is no file or folder {source}, nor such a data set on the Hub.") from error


# Builders of `datasets` by the endings of files.
_FILES = {".jsonl": "", ".json": "", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".arrow": "arrow",
          ".tar": "webdataset"}  # fmt: skip


def _load_file(path: Path, split: str, streaming: bool, root: str, kwargs: dict[str, Any]):
    if path.suffix not in _FILES:
        raise ValueError(f"{path} is none of the files that rows are read from: {', '.join(_FILES)}.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} has no rows.")
    if builder := _FILES[path.suffix]:
        options = {"sep": "\t"} if path.suffix == ".tsv" else {}
        return _load(builder, split, streaming, root, {**options, **kwargs, "data_files": {split: str(path)}})
    if kwargs:
        raise ValueError(f"{', '.join(kwargs)} cannot be given for a file of JSON.")
    rows = JsonArray(path.resolve(), root) if is_json_array(path) else JsonLines(path.resolve(), root)
    if next(rows.rows(), None) is None:
        raise ValueError(f"{path} has no rows.")
    return rows.stream() if streaming else rows.dataset()


def _load(name: str, split: str, streaming: bool, root: str, kwargs: dict[str, Any]):
    from datasets import load_dataset

    return numbered(load_dataset(name, split=split, streaming=streaming, **kwargs), root)


def prepare_dataset(
    dataset: Dataset | IterableDataset,
    processor: FastVLMProcessor,
    row_format: RowFormat | None = None,
    faulty_rows: str = "stop",
    read: ReadRow = read_row,
) -> tuple[Dataset | IterableDataset, RowReport]:
    """
    Find the rows that cannot be trained on before the training does: all at once, or, of a stream, as they come.

    Args:
        processor: counts the tokens.
        row_format: the columns, and how long an example may be.
        faulty_rows: `"stop"` raises at the first, `"skip"` leaves them out and counts them.
        read: finds what is wrong with a row; `read_preference_row` for those with a chosen and a rejected answer.

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
    check = _RowCheck(processor, row_format, skip=faulty_rows == "skip", read=read)
    if isinstance(dataset, IterableDataset):
        return dataset.filter(check), check.report
    kept = check.all_of(dataset)
    if not kept:
        raise ValueError(f"There is nothing to train on: {check.report}.")
    return (dataset if len(kept) == len(dataset) else dataset.select(kept)), check.report


def _needed_columns(dataset, row_format: RowFormat):
    """The data set with the columns that a layout may be in and the rows' places alone, images as stored."""
    import datasets

    wanted = [name for name in (row_format.messages_column, row_format.images_column) if name]
    names = _column_names(dataset, wanted)
    if missing := [name for name in wanted if name not in names]:
        raise MissingColumnError(
            f"The data set has no column {' and no column '.join(map(repr, missing))}; it has "
            f"{', '.join(repr(name) for name in names if name not in _ABOUT_ROWS)}. Name the right ones in "
            "`messages_column` and `images_column`, or none, to have them recognised."
        )
    if LINE_COLUMN in names or not dataset.features or is_read_row_by_row(dataset):
        return dataset
    known = {*wanted, *KNOWN_COLUMNS, *_ABOUT_ROWS}
    dataset = dataset.select_columns([name for name in dataset.features if name in known] or list(dataset.features))
    # Decoded in the collator's process, where a damaged one can be told from a programming error.
    undecoded = datasets.Image(decode=False)
    for name, feature in list(dataset.features.items()):
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(name, undecoded)
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            dataset = dataset.cast_column(name, datasets.List(undecoded))
    # Processes that share a stream would each count what they read themselves.
    is_stream = isinstance(dataset, datasets.IterableDataset)
    return numbered(dataset) if is_stream and place_column(list(dataset.features)) is None else dataset


_ABOUT_ROWS = (*UNITS, ROOT_COLUMN, FAULT_COLUMN)


def _column_names(dataset, wanted: list[str]) -> list[str]:
    """Names of the columns; of rows that may each have others, of as many as have the wanted ones together.

    If no row can be read, the wanted ones are taken for granted.
    """
    if dataset.features and not is_read_row_by_row(dataset):
        return list(dataset.features)
    names: dict[str, None] = {}
    for row in islice(dataset, _ROWS_SEARCHED):
        if not row.get(FAULT_COLUMN):
            names |= dict.fromkeys(row)
            if names.keys() >= set(wanted):
                break
    return list(names or [*wanted, LINE_COLUMN])


def recognised_layout(dataset: Dataset | IterableDataset, row_format: RowFormat | None = None) -> str:
    """In words, which layout its rows have, by the first that has one: what is said before a training."""
    row_format = row_format or RowFormat()
    problem: Exception | None = None
    for row in islice(_needed_columns(dataset, row_format), _ROWS_SEARCHED):
        try:
            columns = find_columns(
                taken_apart(row), row_format.layout, row_format.messages_column, row_format.images_column
            )
        except RowError as error:
            problem = problem or error
        else:
            return str(columns)
    return f"no known layout: {problem or 'there are no rows'}"


class _RowCheck:
    """Says of rows whether they can be trained on, and keeps the report."""

    def __init__(self, processor: FastVLMProcessor, row_format: RowFormat, skip: bool, read: ReadRow):
        self.processor, self.row_format, self.skip, self.read = processor, row_format, skip, read
        self.report = RowReport()

    def __call__(self, row: dict[str, Any], index: int = 0) -> bool:
        """Whether a row stays; `index` is its place if the row does not say."""
        column = place_column(list(row))
        place = row[column] if column else index
        self.report.unit = UNITS[column] if column else "row"
        self.report.checked += 1
        try:
            text, images = self.read(self.processor, row, self.row_format)
        except RowError as error:
            named = f"{self.report.unit} {place}"
            if not self.skip:
                raise RowError(f"{named.capitalize()}: {error}", error.reason) from error
            logger.warning("Left out %s: %s", named, error)
            self.report.left_out.setdefault(error.reason, []).append(place)
            return False
        self.report.tokens[len(text.input_ids)] += 1
        self.report.images[len(images)] += 1
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
        merged.tokens += report.tokens
        merged.images += report.images
        for reason, rows in report.left_out.items():
            merged.left_out.setdefault(reason, []).extend(rows)
    for rows in (merged.shortened, *merged.left_out.values()):
        rows.sort(key=lambda place: (str(type(place)), place))
    return merged
