# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Rows as their source has them, each with its place there, whatever is split off, shuffled or shared out later."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# Columns that say where a row comes from, and what their numbers count: lines of a file from 1, rows from 0.
LINE_COLUMN, ROW_COLUMN = "source_line", "source_row"
UNITS = {LINE_COLUMN: "line", ROW_COLUMN: "row"}
# In place of a line's columns, what is wrong with it.
FAULT_COLUMN = "source_fault"
_OFFSET = "source_offset"
_ROWS_AT_ONCE = 16


def place_column(names: list[str]) -> str | None:
    """Which of the columns says where a row comes from; `None` if there is none."""
    return next((name for name in UNITS if name in names), None)


@dataclass(frozen=True)
class JsonLines:
    """
    A file with one JSON object per line.

    Lines without an object stay rows, with what is wrong in `source_fault`. Rows need not have the same columns, nor
    columns the same types: every row is read from the file when it is asked for.

    Args:
        path: of the file.
        images_column: whose paths are relative to the file's folder, where such files exist.
    """

    path: Path
    images_column: str | None = None

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
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, offset, line
                offset += len(line)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            return {FAULT_COLUMN: f"It is no JSON: {error}"}
        if not isinstance(row, dict):
            return {FAULT_COLUMN: f"It is no JSON object but a {type(row).__name__}."}
        if self.images_column in row:
            row[self.images_column] = absolute_paths(row[self.images_column], self.path.parent)
        return row


def absolute_paths(value: Any, folder: Path) -> Any:
    """A path or list of paths relative to `folder`, absolute where such files exist; other values as they are."""
    if isinstance(value, list):
        return [absolute_paths(each, folder) for each in value]
    if isinstance(value, str) and os.path.isfile(folder / value):  # of what can be no path, it says so, too
        return str(folder / value)
    return value


def is_json_array(path: Path) -> bool:
    """Whether a file is one JSON array, as LLaVA's are, instead of an object per line."""
    with path.open("rb") as file:
        while block := file.read(1 << 12):
            if start := block.removeprefix(b"\xef\xbb\xbf").lstrip():
                return start.startswith(b"[")
    return False


def numbered(dataset: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """
    The same rows with their number in `source_row`, from 0; those that say where they are from stay as they are.

    Of a stream of several files, numbers start anew in each and name it ("3 of file 2"): processes read different ones
    and none knows how long the others are.
    """
    import numpy as np
    from datasets import Features, IterableDataset, Value

    if place_column(dataset.column_names or []):
        return dataset
    if not isinstance(dataset, IterableDataset):
        return dataset.add_column(ROW_COLUMN, np.arange(len(dataset)))
    shards = dataset.num_shards
    features = dataset.features
    if features is not None:
        features = Features({**features, ROW_COLUMN: Value("int64" if shards == 1 else "string")})
    rows = _NumberedRows(dataset.decode(False) if features is not None else dataset)
    return IterableDataset.from_generator(rows, features, gen_kwargs={"shards": list(range(shards))})


@dataclass(frozen=True)
class _NumberedRows:
    dataset: IterableDataset

    def __call__(self, shards: list[int]) -> Iterator[dict[str, Any]]:
        count = self.dataset.num_shards
        for shard in shards:
            part = self.dataset.shard(count, shard) if count > 1 else self.dataset
            # Not `iter(part)`, which in a data loader's worker would take that worker's share of the share.
            batches = part.iter(_ROWS_AT_ONCE)
            rows = (dict(zip(batch, values)) for batch in batches for values in zip(*batch.values()))
            for index, row in enumerate(rows):
                yield {**row, ROW_COLUMN: index if count == 1 else f"{index} of file {shard + 1}"}
