# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Rows as TRL's trainers want to see them, when a collator of ours reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset


def rows_for_trl(rows: Dataset) -> Dataset:
    """
    The same rows, each with `images`, maybe `None`: TRL's trainers ask the first one for that column, and otherwise
    make tokens of its text.

    Args:
        rows: of any layout; not a stream.
    """
    before = rows.format["format_kwargs"].get("transform") if rows.format["type"] == "custom" else None
    return rows.with_transform(_WithImages(before))


@dataclass(frozen=True)
class _WithImages:
    before: Callable[[dict[str, list[Any]]], dict[str, list[Any]]] | None

    def __call__(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if self.before is not None:
            columns = self.before(columns)
        count = len(next(iter(columns.values())))
        return {"images": [None] * count, **columns}
