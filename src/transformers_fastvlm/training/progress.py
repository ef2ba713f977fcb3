# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The course of a training in a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..programs.pictures import BLUE, GREY, ORANGE, write_picture

_MARKED = 30  # points below which each is marked


def draw_progress(history: Sequence[Mapping[str, Any]], path: Path, title: str, metric: str | None = None) -> Path:
    """
    Draw the losses over the steps and, below them, the metric of the evaluations.

    Args:
        history: `trainer.state.log_history`.
        path: of the PNG file.
        title: what was trained on what.
        metric: its name in the history, without `eval_`; `None` if there is none.
    """
    from matplotlib.figure import Figure

    values = _points(history, f"eval_{metric}") if metric else []
    count = 2 if values else 1
    figure = Figure(figsize=(7, 2 + 2 * count), layout="constrained")
    losses, *others = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for key, label, colour in (("loss", "training", BLUE), ("eval_loss", "evaluation", ORANGE)):
        if points := _points(history, key):
            losses.plot(*zip(*points), label=label, color=colour, marker=_marker(points))
    losses.set_ylabel("loss per token of the answers")
    losses.legend()
    for axes in others:
        axes.plot(*zip(*values), color=GREY, marker=_marker(values))
        axes.set_ylabel(str(metric).replace("_", " "))
    for axes in (losses, *others):
        axes.margins(x=0.02, y=0.08)
        axes.grid(alpha=0.3)
    (others[-1] if others else losses).set_xlabel("step")
    figure.suptitle(title, fontsize=10)
    return write_picture(figure, path)


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(entry["step"], entry[key]) for entry in history if key in entry]


def _marker(points: Sequence[Any]) -> str | None:
    return "." if len(points) < _MARKED else None
