# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Records of benchmarks (see `records`) as tables, in Markdown, with what is to be said of them."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from ..programs.tables import markdown_table
from .configurations import OURS
from .profiling import Profile, Share
from .ttft import STAGE_NAMES

# From a record to its table and the lines below it.
Report = Callable[[dict[str, Any]], tuple[Table, list[str]]]


def print_record(record: dict[str, Any], report: Report, console: Console) -> None:
    """The machine, the table and the lines below it."""
    table, lines = report(record)
    for line in machine_lines(record["machine"]):
        console.print(line, highlight=False)
    console.print(table)
    for line in lines:
        console.print(line, highlight=False)


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """The header of every benchmark: processor, device, threads, versions."""
    flags = f" ({', '.join(machine['cpu_flags'])})" if machine["cpu_flags"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [f"{machine['cpu']}{flags}, {machine['threads']} threads, device {machine['device']}", versions]


def milliseconds(median: float, spread: float) -> str:
    """Median, and half the distance between the quartiles."""
    return f"{median * 1e3:.1f} ± {spread * 1e3:.1f}"


def mebibytes(count: int | None) -> str:
    return "–" if count is None else f"{count / 2**20:.0f}"


def in_words(profile: dict[str, Any]) -> str:
    shares = tuple(Share(**share) for share in profile["shares"])
    return Profile(shares, profile["flop"], profile["flop_per_second"]).in_words


def encoder_report(record: dict[str, Any]) -> tuple[Table, list[str]]:
    """One row per point and encoder; per other encoder the ratio of its latency to ours."""
    results = record["results"]
    config = results["config"]
    table = markdown_table(("pixels", "dtype", "encoder"), ("ms", "× ours", "images/s", "MiB"))
    for point in results["points"]:
        for name, timing in point["timings"].items():
            ratio = point["ratios"].get(name)
            table.add_row(
                f"{point['resolution']}²",
                point["dtype"],
                name,
                milliseconds(timing["median_s"], timing["spread_s"]),
                "" if ratio is None else f"{ratio:.2f}",
                f"{point['images_per_second'][name]:.2f}",
                mebibytes(timing["peak_memory_bytes"]),
            )
    lines = [
        f"ms: median ± half the interquartile range of {config['repetitions']} calls, batch {config['batch_size']}; "
        "× ours: median of pairs; MiB: what one call needs at its peak beyond the weights."
    ]
    lines += [
        f"Feature maps of the same weights, {config['resolutions'][0]}², {dtype}: {name} differs from {OURS} by at "
        f"most {difference:.1e} of the largest value."
        for dtype, differences in results["relative_differences"].items()
        for name, difference in differences.items()
    ]
    lines += [
        f"Top operations of ours, {config['resolutions'][-1]}², {dtype}: {in_words(profile)}."
        for dtype, profile in results["profiles"].items()
    ]
    return table, lines


def ttft_report(record: dict[str, Any]) -> tuple[Table, list[str]]:
    """One row per model and resolution: the stages' medians, their sum, the ratio to ours, the decode."""
    results = record["results"]
    config = results["config"]
    ratios = {(row["peer"], row["peer_resolution"]): row["ratio"] for row in results["ratios"]}
    numbers = ("pixels", "visual tokens", *STAGE_NAMES, "first token ms", "× ours", "tokens/s", "MiB")
    table = markdown_table(("model",), numbers)
    for point in results["points"]:
        ratio = ratios.get((point["model"], point["resolution"]))
        speed = point["tokens_per_second"]
        table.add_row(
            point["model"],
            f"{point['resolution']}²",
            str(point["visual_tokens"]),
            *(f"{point['stages'][stage] * 1e3:.1f}" for stage in STAGE_NAMES),
            milliseconds(point["first_token"], point["first_token_spread"]),
            "" if ratio is None else f"{ratio:.2f}",
            "–" if speed is None else f"{speed:.1f}",
            mebibytes(point["peak_memory_bytes"]),
        )
    subject = f"Decoder {config['decoder']}" if config["model"] is None else f"Ours: {config['model']}"
    lines = [
        f"ms: medians of up to {config['repetitions']} runs, from image file to first token (± half the interquartile "
        f"range), of a prompt with {config['text_tokens']} tokens besides the image's. {subject}, "
        f"{config['dtype']}, batch {config['batch_size']}. tokens/s: after the first token; MiB: what one run needs "
        "at its peak beyond the weights."
    ]
    fixed = [row for row in results["ratios"] if row["peer_resolution"] != row["our_resolution"]]
    if fixed:
        lines.append(f"× ours, for models with a resolution of their own: ours at {fixed[0]['our_resolution']}².")
    usual = min(config["resolutions"], key=lambda side: abs(side - 1024))
    lines.append(f"Top operations of ours, {usual}²: {in_words(results['profile'])}.")
    return table, lines


def training_report(record: dict[str, Any]) -> tuple[Table, list[str]]:
    """One row per method."""
    results = record["results"]
    config, points = results["config"], results["points"]
    peers = [point for point in points if point["method"] in config.get("peers", ())]
    faster = tuple(f"× {peer['method']}" for peer in peers)
    table = markdown_table(("method",), ("trainable M", "ms per step", "tokens/s", "peak MiB", *faster))
    for point in points:
        table.add_row(
            point["method"],
            f"{point['trainable'] / 1e6:.2f}",
            milliseconds(point["median_s"], point["spread_s"]),
            f"{point['tokens_per_second']:.0f}",
            mebibytes(point["peak_memory_bytes"]),
            *(f"{peer['median_s'] / point['median_s']:.2f}" for peer in peers),
        )
    checkpointing = "with" if config["gradient_checkpointing"] else "without"
    line = (
        f"Batch {config['batch_size']}, {config['dtype']}, {points[0]['tokens_per_step']} tokens, {checkpointing} "
        f"gradient checkpointing. ms: median ± half the interquartile range of {config['steps']} steps; MiB: the "
        "whole process on a CPU, what PyTorch allocates on a GPU."
    )
    return table, [line]
