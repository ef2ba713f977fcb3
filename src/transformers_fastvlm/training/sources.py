# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Rows as their source has them, each with its place there, whatever is split off, shuffled or shared out later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .row_images import ROOT_COLUMN

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# Columns that say where a row comes from, and what their numbers count: lines of a file from 1, rows from 0.
LINE_COLUMN, ROW_COLUMN = "source_line", "source_row"
UNITS = {LINE_COLUMN: "line", ROW_COLUMN: "row"}
# In place of a line's columns, what is wrong with it.
FAULT_COLUMN = "source_fault"
_OFFSET, _TEXT = "source_offset", "source_text"
_ROWS_AT_ONCE = 16


def place_column(names: list[str]) -> str | None:
    """Which of the columns says where a row comes from; `None` if there is none."""
    return next((name for name in UNITS if name in names), None)


def is_read_row_by_row(dataset: Dataset | IterableDataset) -> bool:
    """Whether columns are those of every single row, read when it is asked for."""
    return not {_OFFSET, _TEXT}.isdisjoint(dataset.features or {})


@dataclass(frozen=True)
class JsonLines:
    """
    A file with one JSON object per line.

    Lines without an object stay rows, with what is wrong in `source_fault`. Rows need not have the same columns, nor
    columns the same types: every row is read from the file when it is asked for.

    Args:
        path: of the file.
        root: folder that its images are in; by default the file's.
    """

    path: Path
    root: str = ""

    def __post_init__(self):
        object.__setattr__(self, "root", self.root or str(self.path.parent.resolve()))

    def dataset(self) -> Dataset:
        """All lines that are not blank, by number; the file is read once, to find where they start."""
        from datasets import Dataset

        places = [(number, offset) for number, offset, _ in self._lines()]
        columns = {LINE_COLUMN: [number for number, _ in places], _OFFSET: [offset for _, offset in places]}
        return Dataset.from_dict(columns).with_transform(self)

    def stream(self) -> IterableDataset:
        from datasets import IterableDataset

        return IterableDataset.from_generator(self.rows)

    def rows(self) -> Iterator[dict[str, Any]]:
        for number, _, line in self._lines():
            yield {**self._parsed(line), LINE_COLUMN: number}

    def __call__(self, places: dict[str, list[int]]) -> dict[str, list[Any]]:
        """The columns of the lines at these offsets, as `Dataset.with_transform` wants them."""
        rows = []
        with self.path.open("rb") as file:
            for number, offset in zip(places[LINE_COLUMN], places[_OFFSET]):
                file.seek(offset)
                rows.append({**self._parsed(file.readline()), LINE_COLUMN: number})
        return _columns_of(rows)

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, offset, line
                offset += len(line)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        return {**_object_in(line), ROOT_COLUMN: self.root}


@dataclass(frozen=True)
class JsonArray:
    """
    A file that is one JSON array of objects; they need not be alike, and what is none stays a faulty row.

    Args:
        path: of the file.
        root: folder that its images are in.
    """

    path: Path
    root: str

    def dataset(self) -> Dataset:
        from datasets import Dataset

        texts = [json.dumps(each) for each in self._values()]
        return Dataset.from_dict({ROW_COLUMN: range(len(texts)), _TEXT: texts}).with_transform(self)

    def stream(self) -> IterableDataset:
        from datasets import IterableDataset

        return IterableDataset.from_generator(self.rows)

    def rows(self) -> Iterator[dict[str, Any]]:
        for index, value in enumerate(self._values()):
            yield {**_object_of(value), ROW_COLUMN: index, ROOT_COLUMN: self.root}

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The columns of rows, as `Dataset.with_transform` wants them."""
        return _columns_of(
            {**_object_of(json.loads(text)), ROW_COLUMN: index, ROOT_COLUMN: self.root}
            for index, text in zip(batch[ROW_COLUMN], batch[_TEXT])
        )

    def _values(self) -> list[Any]:
        """
        Raises:
            ValueError: if the file is no JSON.
        """
        try:
            return json.loads(self.path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path} is no JSON: {error}") from error


def _object_in(line: bytes) -> dict[str, Any]:
    try:
        return _object_of(json.loads(line.decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:
        return {FAULT_COLUMN: f"It is no JSON: {error}"}


def _object_of(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {FAULT_COLUMN: f"It is no JSON object but a {type(value).__name__}."}


def _columns_of(rows: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def is_json_array(path: Path) -> bool:
    """Whether a file is one JSON array, as LLaVA's are, instead of an object per line."""
    with path.open("rb") as file:
        while block := file.read(1 << 12):
            if start := block.removeprefix(b"\xef\xbb\xbf").lstrip():
                return start.startswith(b"[")
    return False


def numbered(dataset: Dataset | IterableDataset, root: str | None = None) -> Dataset | IterableDataset:
    """
    The same rows with their number in `source_row`, from 0; those that say where they are from stay as they are.

    Of a stream of several files, numbers start anew in each and name it ("3 of file 2"): processes read different ones
    and none knows how long the others are.

    Args:
        root: folder that their images are in, which each says in `source_root`; `None` leaves that out.
    """
    import numpy as np
    from datasets import Features, IterableDataset, Value

    if place_column(dataset.column_names or []):
        return dataset
    if not isinstance(dataset, IterableDataset):
        dataset = dataset.add_column(ROW_COLUMN, np.arange(len(dataset)))
        return dataset if root is None else dataset.add_column(ROOT_COLUMN, [root] * len(dataset))
    shards = dataset.num_shards
    features = dataset.features
    if features is not None:
        more = {ROW_COLUMN: Value("int64" if shards == 1 else "string")}
        more |= {} if root is None else {ROOT_COLUMN: Value("string")}
        features = Features({**features, **more})
    rows = _NumberedRows(dataset.decode(False) if features is not None else dataset, root)
    return IterableDataset.from_generator(rows, features, gen_kwargs={"shards": list(range(shards))})


@dataclass(frozen=True)
class _NumberedRows:
    dataset: IterableDataset
    root: str | None

    def __call__(self, shards: list[int]) -> Iterator[dict[str, Any]]:
        count = self.dataset.num_shards
        more = {} if self.root is None else {ROOT_COLUMN: self.root}
        for shard in shards:
            part = self.dataset.shard(count, shard) if count > 1 else self.dataset
            # Not `iter(part)`, which in a data loader's worker would take that worker's share of the share.
            batches = part.iter(_ROWS_AT_ONCE)
            rows = (dict(zip(batch, values)) for batch in batches for values in zip(*batch.values()))
            for index, row in enumerate(rows):
                yield {**row, ROW_COLUMN: index if count == 1 else f"{index} of file {shard + 1}", **more}
