# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of results, in Markdown, in a terminal as in a file."""

from collections.abc import Iterable

from rich import box
from rich.table import Table


def markdown_table(texts: Iterable[str], numbers: Iterable[str]) -> Table:
    """An empty table with a column for each name, texts to the left, numbers to the right."""
    table = Table(box=box.MARKDOWN)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table
