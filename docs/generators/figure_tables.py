# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of committed JSON, each with the command, machine and date that its figures come from."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "tiny_reader"))

from figures import markdown_table


def markdown(path: Path) -> str:
    """
    The table of a file: of a benchmark, of an evaluation, or of columns and rows as they are.

    Raises:
        OSError: if there is no such file.
        KeyError: if something is missing in it.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if "benchmark" in record:
        return _benchmark_table(path)
    if "columns" in record:
        return _with_origin(record, markdown_table(record["columns"], record["rows"]))
    return _with_origin(record, _scores_table(record["results"]))


def _benchmark_table(path: Path) -> str:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import tables

    return tables.markdown(path)


def _scores_table(rows: list[dict[str, Any]]) -> str:
    columns = ["task", "metric", "%", "samples", "unreadable"]
    cells = []
    for row in rows:
        error = "" if not row["stderr"] else f" ± {row['stderr']:.1f}"
        value = f"{row['value']:.1f}{error}"
        cells.append([row["dataset_name"], row["metric_name"], value, row["samples"], row["unreadable"]])
    return markdown_table(columns, cells)


def _with_origin(record: dict[str, Any], table: str) -> str:
    origin = "\n\n".join([*record.get("notes", []), f"{record['date']}, {_machine(record)}."])
    return f"```bash\n{record['command']}\n```\n\n{table}\n\n{origin}\n"


def _machine(record: dict[str, Any]) -> str:
    machine = record.get("machine", {})
    versions = machine.get("versions", record.get("versions", {}))
    words = [f"{machine['threads']} threads of {machine['cpu']}"] if "cpu" in machine else []
    return ", ".join([*words, *(f"{name} {version}" for name, version in versions.items())])
