# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Results as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..extras import require
from .known_tasks import KNOWN_TASKS

# From a palette that colour-blind people can tell apart (Okabe and Ito).
_OURS = "#0072B2"
_CARD_COLOURS = {"0.5B": "#E69F00", "1.5B": "#CC79A7", "7B": "#000000"}


def draw_results(results: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """
    Scores by task, one picture per evaluation; and, of several, scores against time to first token.

    Returns:
        the pictures, PNG files in `folder`.

    Raises:
        MissingLibraryError: if matplotlib is not installed.
    """
    require(["matplotlib"], "bench")
    paths = []
    for index, each in enumerate(results):
        name = "scores.png" if len(results) == 1 else f"scores-{index + 1}.png"
        paths.append(_draw_scores(each, folder / name))
    timed = [each for each in results if each["settings"].get("ttft_ms")]
    if len(timed) > 1:
        paths.append(_draw_score_over_ttft(timed, folder / "score-over-ttft.png"))
    return paths


def reported_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per task: of the metric that papers report where that is known, else of the first."""
    rows: dict[str, dict[str, Any]] = {}
    for row in results["results"]:
        known = KNOWN_TASKS.get(row["task"])
        if known is None or known.metric == row["metric"]:
            rows.setdefault(row["task"], row)
    return list(rows.values())


def _draw_scores(results: dict[str, Any], path: Path) -> Path:
    from matplotlib.figure import Figure

    rows = reported_rows(results)
    figure = Figure(figsize=(8.0, 0.42 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    errors = [row["stderr"] or 0 for row in rows]
    axes.barh(places, [row["value"] for row in rows], xerr=errors, height=0.6, color=_OURS, label="this checkpoint")
    for size, colour in _CARD_COLOURS.items():
        known = [
            (KNOWN_TASKS[row["task"]].card, place) for place, row in zip(places, rows) if row["task"] in KNOWN_TASKS
        ]
        points = [(card[size], place) for card, place in known if size in card]
        if points:
            axes.plot(*zip(*points), "|", markersize=16, markeredgewidth=2.5, color=colour, label=f"original {size}")
    axes.set_yticks(
        places, [f"{row['dataset_name']}\n{row['metric_name']} {row['value']:.1f}" for row in rows], fontsize=8
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the first on top
    axes.set_xlim(0, 108)
    axes.set_xlabel("score, %")
    axes.set_title(f"{Path(results['model']).name}, {results['settings'].get('resolution')}²", fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=120)
    return path


def _draw_score_over_ttft(results: Sequence[dict[str, Any]], path: Path) -> Path:
    """As figure 4 of the paper (arXiv 2412.13303): the average over tasks, and a line per task besides."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axes = figure.subplots()
    results = sorted(results, key=lambda each: each["settings"]["ttft_ms"])
    times = [each["settings"]["ttft_ms"] for each in results]
    scores = [{row["dataset_name"]: row["value"] for row in reported_rows(each)} for each in results]
    for index, task in enumerate(dict.fromkeys(name for each in scores for name in each)):
        points = [(time, each[task]) for time, each in zip(times, scores) if task in each]
        style = "-" if index < 10 else "--"  # there are ten colours
        axes.plot(*zip(*points), style, marker="o", markersize=4, linewidth=1.2, label=task)
    if len(scores[0]) > 1 and all(each.keys() == scores[0].keys() for each in scores):
        averages = [sum(each.values()) / len(each) for each in scores]
        axes.plot(times, averages, color="black", marker="o", linewidth=2.5, label="average")
    for time, each in zip(times, results):
        axes.axvline(time, color="#999999", linewidth=0.6, zorder=0)
        text = f"{each['settings']['resolution']}²"
        axes.annotate(text, (time, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks(times, [f"{time:.0f}" for time in times])
    axes.minorticks_off()
    axes.set_xlabel("time to first token, ms")
    axes.set_ylabel("score, %")
    axes.set_ylim(0, 103)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right center")
    figure.savefig(path, dpi=120)
    return path
