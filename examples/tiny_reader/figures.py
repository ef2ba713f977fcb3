# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of figures as JSON, with what they were made by, from which the documentation makes its own.

A table has `columns` and `rows` of text, whole numbers, decimal numbers (shown with one digit) and `null` (not shown).
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import torch

from transformers_fastvlm.benchmark.machine import describe_machine
from transformers_fastvlm.programs.commands import script_command_line
from transformers_fastvlm.programs.files import write_text

Cell = str | int | float | None


def write_table(path: Path, columns: list[str], rows: list[list[Cell]], device: str = "cpu") -> None:
    """Write the table beside the command that this process runs, the machine, and the date."""
    table: dict[str, Any] = {
        "command": script_command_line(),
        "date": date.today().isoformat(),
        "machine": vars(describe_machine(torch.device(device))),
        "columns": columns,
        "rows": rows,
    }
    write_text(path, json.dumps(table, indent=2, ensure_ascii=False) + "\n")


def cell_text(cell: Cell) -> str:
    """A cell as people read it."""
    if cell is None:
        return ""
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def markdown_table(columns: list[str], rows: list[list[Cell]]) -> str:
    """The table in Markdown."""
    lines = [columns, ["---"] * len(columns), *(list(map(cell_text, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
