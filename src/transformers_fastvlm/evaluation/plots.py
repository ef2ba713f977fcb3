# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Results as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..extras import require
from ..programs.pictures import BLUE, GREY, ORANGE, PINK, axes, bar_axes, write_picture
from .known_tasks import KNOWN_TASKS

_CARD_COLOURS = {"0.5B": ORANGE, "1.5B": PINK, "7B": "black"}


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
    rows = reported_rows(results)
    labels = [f"{row['dataset_name']}\n{row['metric_name']} {row['value']:.1f}" for row in rows]
    figure, plot = bar_axes(labels, 0.42, 1.5)
    places = range(len(rows))
    errors = [row["stderr"] or 0 for row in rows]
    plot.barh(places, [row["value"] for row in rows], xerr=errors, height=0.6, color=BLUE, label="this checkpoint")
    for size, colour in _CARD_COLOURS.items():
        known = [
            (KNOWN_TASKS[row["task"]].card, place) for place, row in zip(places, rows) if row["task"] in KNOWN_TASKS
        ]
        points = [(card[size], place) for card, place in known if size in card]
        if points:
            plot.plot(*zip(*points), "|", markersize=16, markeredgewidth=2.5, color=colour, label=f"original {size}")
    plot.set_xlim(0, 108)
    plot.set_xlabel("score, %")
    plot.set_title(f"{Path(results['model']).name}, {results['settings'].get('resolution')}²", fontsize=10)
    figure.legend(fontsize=8, loc="outside lower center", ncols=4)
    return write_picture(figure, path)


def _draw_score_over_ttft(results: Sequence[dict[str, Any]], path: Path) -> Path:
    """As figure 4 of the paper (arXiv 2412.13303): the average over tasks, and a line per task besides."""
    figure, plot = axes(8.0, 4.6)
    results = sorted(results, key=lambda each: each["settings"]["ttft_ms"])
    times = [each["settings"]["ttft_ms"] for each in results]
    scores = [{row["dataset_name"]: row["value"] for row in reported_rows(each)} for each in results]
    for index, task in enumerate(dict.fromkeys(name for each in scores for name in each)):
        points = [(time, each[task]) for time, each in zip(times, scores) if task in each]
        style = "-" if index < 10 else "--"  # there are ten colours
        plot.plot(*zip(*points), style, marker="o", markersize=4, linewidth=1.2, label=task)
    if len(scores[0]) > 1 and all(each.keys() == scores[0].keys() for each in scores):
        averages = [sum(each.values()) / len(each) for each in scores]
        plot.plot(times, averages, color="black", marker="o", linewidth=2.5, label="average")
    for time, each in zip(times, results):
        plot.axvline(time, color=GREY, linewidth=0.6, zorder=0)
        text = f"{each['settings']['resolution']}²"
        plot.annotate(text, (time, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=8)
    plot.set_xscale("log")
    plot.set_xticks(times, [f"{time:.0f}" for time in times])
    plot.minorticks_off()
    plot.set_xlabel("time to first token, ms")
    plot.set_ylabel("score, %")
    plot.set_ylim(0, 103)
    plot.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right center")
    return write_picture(figure, path)
