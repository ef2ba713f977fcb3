# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Records of benchmarks (see `records`) as pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..programs.pictures import BLUE, GREY, ORANGE, PINK, SKY, axes, bar_axes, write_picture
from .configurations import OURS

_STAGE_COLOURS = {"preprocess": GREY, "encoder": BLUE, "projector": SKY, "prefill": ORANGE, "other": PINK}


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
        figure, plot = axes(7.0, 4.2)
        points = [point for point in results["points"] if point["dtype"] == dtype]
        for name in dict.fromkeys(name for point in points for name in point["timings"]):
            timed = [
                (point["resolution"], point["timings"][name]["median_s"] * 1e3)
                for point in points
                if name in point["timings"]
            ]
            plot.plot(*zip(*timed), marker="o", label=name, linewidth=2.5 if name == OURS else 1.2)
        plot.set_xscale("log", base=2)
        plot.set_yscale("log")
        plot.set_xticks(config["resolutions"], [f"{side}²" for side in config["resolutions"]])
        plot.minorticks_off()
        plot.set_xlabel("pixels")
        plot.set_ylabel(f"encoder, ms, batch {config['batch_size']}")
        plot.set_title(dtype, fontsize=10)
        plot.legend(fontsize=8)
        plot.grid(alpha=0.3)
        paths.append(write_picture(figure, folder / f"encoders-{dtype}.png"))
    return paths


def _label(point: dict[str, Any]) -> str:
    return f"{point['model']}, {point['resolution']}², {point['visual_tokens']} tokens"


def draw_stages(record: dict[str, Any], path: Path) -> Path:
    """Time to first token of every model and resolution, stacked by stage, as a PNG file."""
    results = record["results"]
    # A peer many times slower would flatten all others; its ratio is in the other picture.
    slowest_ours = max(point["first_token"] for point in results["points"] if point["model"] == OURS)
    points = [
        point for point in results["points"] if point["model"] == OURS or point["first_token"] < 4 * slowest_ours
    ]
    figure, plot = bar_axes([_label(point) for point in points], 0.3, 1.7)
    ends = [0.0] * len(points)
    for stage, colour in _STAGE_COLOURS.items():
        lengths = [point["stages"][stage] * 1e3 for point in points]
        plot.barh(range(len(points)), lengths, left=ends, label=stage, color=colour)
        ends = [end + length for end, length in zip(ends, lengths)]
    for index, (end, point) in enumerate(zip(ends, points)):
        plot.annotate(f" {point['first_token'] * 1e3:.0f}", (end, index), va="center", fontsize=8)
    config = results["config"]
    subject = f"decoder {config['decoder']}" if config["model"] is None else Path(config["model"]).name
    plot.set_xlabel("time to first token, ms")
    plot.set_title(f"{subject}, {config['dtype']}, batch {config['batch_size']}", fontsize=10)
    plot.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=len(_STAGE_COLOURS), fontsize=8)
    return write_picture(figure, path)


def _draw_ratios(record: dict[str, Any], path: Path, paper: Mapping[str, float]) -> Path:
    results = record["results"]
    points = {(point["model"], point["resolution"]): point for point in results["points"]}
    rows = results["ratios"]
    labels = [_label(points[row["peer"], row["peer_resolution"]]) for row in rows]
    labels = [f"{label}\nvs ours, {row['our_resolution']}²" for label, row in zip(labels, rows)]
    figure, plot = bar_axes(labels, 0.45, 1.4)
    for offset, label, colour, values in (
        (-0.2, "here", BLUE, [row["ratio"] for row in rows]),
        (0.2, "paper", ORANGE, [paper.get(row["peer"]) for row in rows]),
    ):
        known = [(index + offset, value) for index, value in enumerate(values) if value is not None]
        if known:
            positions, ratios = zip(*known)
            plot.barh(positions, [ratio - 1 for ratio in ratios], left=1, height=0.38, label=label, color=colour)
        for position, value in known:
            plot.annotate(f" {value:.2f}×", (value, position), va="center", fontsize=8)
    plot.set_xscale("log")
    plot.axvline(1, color="black", linewidth=0.8)
    plot.set_xlabel("time to first token: peer / ours")
    plot.margins(x=0.1)
    plot.legend(fontsize=8)
    return write_picture(figure, path)
