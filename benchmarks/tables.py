# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Markdown of the committed results, each a record (see `transformers_fastvlm.benchmark.records`) in `results/`.

    python benchmarks/tables.py ttft    # results/ttft.json; all of them without a name
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from command_lines import run_script
from compare_runtimes import runtimes_report
from compare_servers import servers_report
from gpu_report import gpu_report
from promised_ratios import ratios_report
from transformers_fastvlm.benchmark.kinds import ENCODER, TRAIN, TTFT
from transformers_fastvlm.benchmark.report import Report, machine_lines

RESULTS = Path(__file__).parent / "results"
REPORTS: dict[str, Report] = {
    "encoder": ENCODER.report,
    "ttft": TTFT.report,
    "train": TRAIN.report,
    "ratios": ratios_report,
    "gpu": gpu_report,
    "servers": servers_report,
    "runtimes": runtimes_report,
}


def markdown(path: Path) -> str:
    """
    The table of a record, with its command, machine and date, and what is to be said of it.

    Raises:
        OSError: if there is no such file.
        KeyError: if something is missing in it.
    """
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    table, lines = REPORTS[record["benchmark"]](record)
    console = Console(width=1000, color_system=None)
    with console.capture() as capture:
        console.print(table)
    rows = "\n".join(line.strip() for line in capture.get().splitlines() if line.strip())
    machine = "; ".join(machine_lines(record["machine"]))
    notes = [*lines, *record.get("notes", []), f"{record['date']}, {machine}."]
    return f"```bash\n{record['command']}\n```\n\n{rows}\n\n" + "\n\n".join(notes) + "\n"


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Of files in results/, without .json.")] = None,
) -> None:
    """Print the Markdown of committed results."""
    for name in names or sorted(path.stem for path in RESULTS.glob("*.json")):
        typer.echo(markdown(RESULTS / f"{name}.json"))


if __name__ == "__main__":
    run_script(main)
