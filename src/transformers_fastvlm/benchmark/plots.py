# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Records of benchmarks (see `records`) as pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .configurations import OURS

# From a palette that colour-blind people can tell apart (Okabe and Ito).
_STAGE_COLOURS = {
    "preprocess": "#999999",
    "encoder": "#0072B2",
    "projector": "#56B4E9",
    "prefill": "#E69F00",
    "other": "#CC79A7",
}


def draw_ttft(record: dict[str, Any], folder: Path, paper: Mapping[str, float] | None = None) -> list[Path]:
    """
    Time to first token against resolution, stacked by stage; and how many times longer others take.

    Args:
        record: of a `ttft` benchmark.
        folder: for the pictures.
        paper: ratios that the paper gives, by model, drawn beside those of the record.

    Returns:
        the pictures, PNG files in `folder`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    paths = [draw_stages(record, folder / "ttft-stages.png")]
    if record["results"]["ratios"]:
        paths.append(_draw_ratios(record, folder / "ttft-ratios.png", paper or {}))
    return paths


def draw_encoders(record: dict[str, Any], folder: Path) -> list[Path]:
    """
    Latency against resolution, one line per encoder, both on log axes; a picture per dtype.

    Returns:
        the pictures, PNG files in `folder`.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    results = record["results"]
    config = results["config"]
    paths = []
    for dtype in config["dtypes"]:
        figure, axes = _axes(5)
        points = [point for point in results["points"] if point["dtype"] == dtype]
        for name in dict.fromkeys(name for point in points for name in point["timings"]):
            timed = [
                (point["resolution"], point["timings"][name]["median_s"] * 1e3)
                for point in points
                if name in point["timings"]
            ]
            axes.plot(*zip(*timed), marker="o", label=name, linewidth=2.5 if name == OURS else 1.2)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(config["resolutions"], [f"{side}²" for side in config["resolutions"]])
        axes.minorticks_off()
        axes.set_xlabel("pixels")
        axes.set_ylabel(f"encoder, ms, batch {config['batch_size']}")
        axes.set_title(dtype, fontsize=10)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
        paths.append(folder / f"encoders-{dtype}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def _label(point: dict[str, Any]) -> str:
    return f"{point['model']}, {point['resolution']}², {point['visual_tokens']} tokens"


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


def draw_stages(record: dict[str, Any], path: Path) -> Path:
    """Time to first token of every model and resolution, stacked by stage, as a PNG file."""
    results = record["results"]
    # A peer many times slower would flatten all others; its ratio is in the other picture.
    slowest_ours = max(point["first_token"] for point in results["points"] if point["model"] == OURS)
    points = [
        point for point in results["points"] if point["model"] == OURS or point["first_token"] < 4 * slowest_ours
    ]
    figure, axes = _rows([_label(point) for point in points])
    ends = [0.0] * len(points)
    for stage, colour in _STAGE_COLOURS.items():
        lengths = [point["stages"][stage] * 1e3 for point in points]
        axes.barh(range(len(points)), lengths, left=ends, label=stage, color=colour)
        ends = [end + length for end, length in zip(ends, lengths)]
    for index, (end, point) in enumerate(zip(ends, points)):
        axes.annotate(f" {point['first_token'] * 1e3:.0f}", (end, index), va="center", fontsize=8)
    config = results["config"]
    subject = f"decoder {config['decoder']}" if config["model"] is None else Path(config["model"]).name
    axes.set_xlabel("time to first token, ms")
    axes.set_title(f"{subject}, {config['dtype']}, batch {config['batch_size']}", fontsize=10)
    axes.margins(x=0.1)
    figure.set_figheight(figure.get_figheight() + 0.3)
    figure.legend(loc="outside lower center", ncols=len(_STAGE_COLOURS), fontsize=8)
    figure.savefig(path, dpi=120)
    return path


def _draw_ratios(record: dict[str, Any], path: Path, paper: Mapping[str, float]) -> Path:
    results = record["results"]
    points = {(point["model"], point["resolution"]): point for point in results["points"]}
    rows = results["ratios"]
    labels = [_label(points[row["peer"], row["peer_resolution"]]) for row in rows]
    figure, axes = _rows([f"{label}\nvs ours, {row['our_resolution']}²" for label, row in zip(labels, rows)])
    figure.set_figheight(0.45 * len(rows) + 1.4)
    for offset, label, colour, values in (
        (-0.2, "here", "#0072B2", [row["ratio"] for row in rows]),
        (0.2, "paper", "#E69F00", [paper.get(row["peer"]) for row in rows]),
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
