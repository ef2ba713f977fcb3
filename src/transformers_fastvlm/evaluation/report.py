# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Results as tables in the terminal, in Markdown."""

from typing import Any

from rich.console import Console
from rich.table import Table

from ..programs.tables import markdown_table
from .comparison import Difference
from .known_tasks import KNOWN_TASKS

_LISTED_CHANGES = 20


def settings_line(results: dict[str, Any]) -> str:
    """What was evaluated and how, without what was left at its default."""
    settings = results["settings"]
    words = [f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if value not in (None, False)]
    return f"{results['model']}: {', '.join(words)}"


def score(row: dict[str, Any]) -> str:
    """Percent, and its standard error where there is one."""
    return f"{row['value']:.1f}" + (f" ± {row['stderr']:.1f}" if row["stderr"] else "")


def results_table(results: dict[str, Any]) -> Table:
    """A row per metric; beside the metric that papers report, the original's scores where its card has them."""
    cards = {row["task"]: known.card for row in results["results"] if (known := KNOWN_TASKS.get(row["task"]))}
    sizes = list(dict.fromkeys(size for card in cards.values() for size in card))
    numbers = ("%", "samples", "unreadable", *(f"original {size}" for size in sizes))
    table = markdown_table(("task", "metric"), numbers)
    for row in results["results"]:
        is_reported = row["task"] in cards and KNOWN_TASKS[row["task"]].metric == row["metric"]
        card = cards[row["task"]] if is_reported else {}
        originals = (f"{card[size]:.1f}" if size in card else "" for size in sizes)
        counts = (str(row["samples"]), str(row.get("unreadable", "–")))
        table.add_row(row["dataset_name"], row["metric_name"], score(row), *counts, *originals)
    return table


def print_results(results: dict[str, Any], console: Console) -> None:
    console.print(settings_line(results), highlight=False)
    console.print(results_table(results))


def differences_table(found: list[Difference]) -> Table:
    """A row per metric that two evaluations share."""
    table = markdown_table(("task", "metric"), ("before", "now", "points", "other answers"))
    for each in found:
        changed = "–" if each.changed is None else str(len(each.changed))
        table.add_row(
            each.task, each.metric, f"{each.before:.1f}", f"{each.after:.1f}", f"{each.points:+.1f}", changed
        )
    return table


def print_differences(found: list[Difference], console: Console) -> None:
    """The table, and the first documents that were answered otherwise."""
    console.print(differences_table(found))
    changes = [(each.task, *change) for each in found for change in each.changed or ()]
    for task, document, before, after in dict.fromkeys(changes[:_LISTED_CHANGES]):
        console.print(f"{task} {document}: {before!r}, now {after!r}", highlight=False, markup=False)
    if len(changes) > _LISTED_CHANGES:
        console.print(f"and {len(changes) - _LISTED_CHANGES} more")
