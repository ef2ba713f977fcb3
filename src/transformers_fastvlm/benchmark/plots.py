# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmark results as pictures."""

from pathlib import Path
from typing import Any

from .encoder import EncoderBenchmark
from .paper import paper_ratio
from .settings import OURS
from .ttft import TtftBenchmark, TtftPoint

# From a palette that colour-blind people can tell apart (Okabe and Ito).
_STAGE_COLOURS = {
    "preprocess": "#999999",
    "encoder": "#0072B2",
    "projector": "#56B4E9",
    "prefill": "#E69F00",
    "other": "#CC79A7",
}


def draw_ttft(benchmark: TtftBenchmark, folder: Path) -> list[Path]:
    """
    Time to first token against resolution, stacked by stage; and how many times longer peers take, beside the paper.

    Returns:
        the pictures, PNG files in `folder`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    paths = [draw_stages(benchmark, folder / "ttft-stages.png")]
    if any(point.name != OURS for point in benchmark.points):
        paths.append(_draw_ratios(benchmark, folder / "ttft-ratios.png"))
    return paths


def draw_encoders(benchmark: EncoderBenchmark, folder: Path) -> list[Path]:
    """
    Latency against resolution, one line per encoder, both on log axes; a picture per dtype.

    Returns:
        the pictures, PNG files in `folder`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    paths = []
    for dtype in benchmark.config.dtypes:
        figure, axes = _axes(5)
        points = [point for point in benchmark.points if point.dtype == dtype]
        for name in (OURS, *benchmark.config.peers):
            timed = [(point.resolution, point.timings[name].median * 1e3) for point in points if name in point.timings]
            if timed:
                axes.plot(*zip(*timed), marker="o", label=name, linewidth=2.5 if name == OURS else 1.2)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(benchmark.config.resolutions, [f"{side}²" for side in benchmark.config.resolutions])
        axes.minorticks_off()
        axes.set_xlabel("pixels")
        axes.set_ylabel(f"encoder, ms, batch {benchmark.config.batch_size}")
        axes.set_title(dtype, fontsize=10)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
        paths.append(folder / f"encoders-{dtype}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def _label(point: TtftPoint) -> str:
    return f"{point.name}, {point.resolution}², {point.visual_tokens} tokens"


def _axes(count: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 1.1 * count + 1.5), 4.2), layout="constrained")
    return figure, figure.subplots()


def _rows(labels: list[str]) -> tuple[Any, Any]:
    """Axes for horizontal bars below each other, however many they are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 0.3 * len(labels) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)  # the first on top
    return figure, axes


def draw_stages(benchmark: TtftBenchmark, path: Path) -> Path:
    """Time to first token of every model and resolution, stacked by stage, as a PNG file."""
    # A peer many times slower would flatten all others; its ratio is in the other picture.
    slowest_ours = max(point.median() for point in benchmark.points if point.name == OURS)
    points = [point for point in benchmark.points if point.name == OURS or point.median() < 4 * slowest_ours]
    figure, axes = _rows([_label(point) for point in points])
    ends = [0.0] * len(points)
    for stage, colour in _STAGE_COLOURS.items():
        lengths = [point.median(stage) * 1e3 for point in points]
        axes.barh(range(len(points)), lengths, left=ends, label=stage, color=colour)
        ends = [end + length for end, length in zip(ends, lengths)]
    for index, (end, point) in enumerate(zip(ends, points)):
        axes.annotate(f" {point.median() * 1e3:.0f}", (end, index), va="center", fontsize=8)
    config = benchmark.config
    subject = f"decoder {config.decoder}" if config.model is None else Path(config.model).name
    axes.set_xlabel("time to first token, ms")
    axes.set_title(f"{subject}, {config.dtype}, batch {config.batch_size}", fontsize=10)
    axes.margins(x=0.1)
    figure.set_figheight(figure.get_figheight() + 0.3)
    figure.legend(loc="outside lower center", ncols=len(_STAGE_COLOURS), fontsize=8)
    figure.savefig(path, dpi=120)
    return path


def _draw_ratios(benchmark: TtftBenchmark, path: Path) -> Path:
    rows = benchmark.ratios()
    figure, axes = _rows([f"{_label(row.peer)}\nvs ours, {row.ours.resolution}²" for row in rows])
    figure.set_figheight(0.45 * len(rows) + 1.4)
    for offset, label, colour, values in (
        (-0.2, "here", "#0072B2", [row.ratio for row in rows]),
        (0.2, "paper", "#E69F00", [paper_ratio(row.peer.name, benchmark.config.decoder) for row in rows]),
    ):
        known = [(index + offset, value) for index, value in enumerate(values) if value is not None]
        if known:
            positions, ratios = zip(*known)
            axes.barh(positions, [ratio - 1 for ratio in ratios], left=1, height=0.38, label=label, color=colour)
        for position, value in known:
            axes.annotate(f" {value:.2f}×", (value, position), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("time to first token: peer / ours")
    axes.margins(x=0.1)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return path
