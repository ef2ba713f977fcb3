# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of results, drawn with matplotlib, which is imported as they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# From a palette that colour-blind people can tell apart (Okabe and Ito).
BLUE, SKY, ORANGE, PINK, GREY = "#0072B2", "#56B4E9", "#E69F00", "#CC79A7", "#999999"


def axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure of that size in inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def bar_axes(labels: Sequence[str], bar_height: float, margin: float) -> tuple[Any, Any]:
    """
    A figure with axes for horizontal bars below each other, the first on top, however many they are.

    Args:
        labels: one per bar.
        bar_height: inches of each.
        margin: inches of title, legend and the axis below.
    """
    figure, bars = axes(8.0, bar_height * len(labels) + margin)
    bars.set_yticks(range(len(labels)), labels, fontsize=8)
    bars.set_ylim(len(labels) - 0.4, -0.6)
    return figure, bars


def write_picture(figure: Any, path: Path) -> Path:
    """As a PNG file."""
    figure.savefig(path, dpi=120)
    return path
