# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmark results as tables for people and JSON for machines."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ..programs.files import write_text
from .encoder import EncoderBenchmark, EncoderPoint
from .machine import Machine
from .operations import Profile, Share
from .paper import paper_ratio
from .settings import OURS
from .targets import TargetCheck
from .timing import Timing
from .training import TrainingBenchmark
from .ttft import STAGE_NAMES, Stages, TtftBenchmark, TtftBenchmarkConfig, TtftPoint


def machine_lines(machine: Machine) -> list[str]:
    """The header of every benchmark: processor, device, threads, versions."""
    flags = f" ({', '.join(machine.cpu_flags)})" if machine.cpu_flags else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return [f"{machine.cpu}{flags}, {machine.threads} threads, device {machine.device}", versions]


def milliseconds(timing: Timing) -> str:
    """Median, and half the distance between the quartiles."""
    first, third = timing.quartiles
    return f"{timing.median * 1e3:.1f} ± {(third - first) / 2 * 1e3:.1f}"


def mebibytes(count: int | None) -> str:
    return "–" if count is None else f"{count / 2**20:.0f}"


def encoder_table(benchmark: EncoderBenchmark) -> Table:
    """One Markdown row per point and encoder; per peer the ratio of its latency to ours."""
    table = Table(box=box.MARKDOWN)
    for name in ("pixels", "dtype", "encoder", "ms", "× ours", "images/s", "MiB"):
        text = name in ("dtype", "encoder")
        table.add_column(name, justify="left" if text else "right", overflow="fold")
    for point in benchmark.points:
        for name, timing in point.timings.items():
            table.add_row(
                f"{point.resolution}²",
                point.dtype,
                name,
                milliseconds(timing),
                "" if name == OURS else f"{point.ratio(name):.2f}",
                f"{point.images_per_second(name):.2f}",
                mebibytes(timing.peak_memory),
            )
    return table


def _print(console: Console, machine: Machine, table: Table, lines: list[str]) -> None:
    for line in machine_lines(machine):
        console.print(line, highlight=False)
    console.print(table)
    for line in lines:
        console.print(line, highlight=False)


def print_encoder_benchmark(benchmark: EncoderBenchmark, console: Console) -> None:
    config = benchmark.config
    lines = [
        f"ms: median ± half the interquartile range of {config.repetitions} calls, batch {config.batch_size}; × ours: "
        "median of pairs; MiB: what one call needs at its peak beyond the weights."
    ]
    lines += [
        f"Feature maps of the same weights, {config.resolutions[0]}², {dtype}: {peer} differs from ours by at most "
        f"{difference:.1e} of the largest value."
        for dtype, differences in benchmark.differences.items()
        for peer, difference in differences.items()
    ]
    lines += [
        f"Top operations of ours, {config.resolutions[-1]}², {dtype}: {profile.in_words}."
        for dtype, profile in benchmark.profiles.items()
    ]
    _print(console, benchmark.machine, encoder_table(benchmark), lines)


def _machine_dict(machine: Machine) -> dict[str, Any]:
    return {**vars(machine), "cpu_flags": list(machine.cpu_flags)}


def _timing_dict(timing: Timing) -> dict[str, Any]:
    return {
        "median_s": timing.median,
        "quartiles_s": list(timing.quartiles),
        "seconds": list(timing.seconds),
        "peak_memory_bytes": timing.peak_memory,
    }


def _point_dict(point: EncoderPoint) -> dict[str, Any]:
    return {
        "resolution": point.resolution,
        "dtype": point.dtype,
        "batch_size": point.batch_size,
        "timings": {name: _timing_dict(timing) for name, timing in point.timings.items()},
        "ratios": {peer: point.ratio(peer) for peer in point.timings if peer != OURS},
        "images_per_second": {name: point.images_per_second(name) for name in point.timings},
    }


def encoder_benchmark_dict(benchmark: EncoderBenchmark) -> dict[str, Any]:
    """The whole result, every repetition included, of types that JSON has. Times in seconds, memory in bytes."""
    config = benchmark.config
    return {
        "benchmark": "encoder",
        "machine": _machine_dict(benchmark.machine),
        "config": {
            **{name: value for name, value in vars(config).items() if name != "encoder"},
            "encoder": config.encoder.to_diff_dict(),
        },
        "points": [_point_dict(point) for point in benchmark.points],
        "relative_differences": benchmark.differences,
        "profiles": {dtype: asdict(profile) for dtype, profile in benchmark.profiles.items()},
    }


def training_table(benchmark: TrainingBenchmark) -> Table:
    """One Markdown row per method."""
    table = Table(box=box.MARKDOWN)
    table.add_column("method", overflow="fold")
    for name in ("trainable M", "ms per step", "tokens/s", "peak MiB"):
        table.add_column(name, justify="right", overflow="fold")
    for point in benchmark.points:
        table.add_row(
            point.method,
            f"{point.trainable / 1e6:.2f}",
            milliseconds(point.timing),
            f"{point.tokens_per_second():.0f}",
            mebibytes(point.timing.peak_memory),
        )
    return table


def print_training_benchmark(benchmark: TrainingBenchmark, console: Console) -> None:
    config, tokens = benchmark.config, benchmark.points[0].tokens
    checkpointing = "with" if config.gradient_checkpointing else "without"
    line = (
        f"Batch {config.batch_size}, {config.dtype}, {tokens} tokens, {checkpointing} gradient checkpointing. "
        f"ms: median ± half the interquartile range of {config.steps} steps; MiB: the whole process on a CPU, what "
        "PyTorch allocates on a GPU."
    )
    _print(console, benchmark.machine, training_table(benchmark), [line])


def training_benchmark_dict(benchmark: TrainingBenchmark) -> dict[str, Any]:
    """The whole result, of types that JSON has. Times in seconds, memory in bytes."""
    return {
        "benchmark": "train",
        "machine": _machine_dict(benchmark.machine),
        "config": vars(benchmark.config),
        "points": [
            {
                "method": point.method,
                "trainable": point.trainable,
                "tokens_per_step": point.tokens,
                "tokens_per_second": point.tokens_per_second(),
                **_timing_dict(point.timing),
            }
            for point in benchmark.points
        ],
    }


def ttft_table(benchmark: TtftBenchmark) -> Table:
    """One Markdown row per model and resolution: the stages' medians, their sum, the ratio to ours, the decode."""
    ratios = {id(row.peer): row for row in benchmark.ratios()}
    table = Table(box=box.MARKDOWN)
    table.add_column("model", overflow="fold")
    for name in ("pixels", "visual tokens", *STAGE_NAMES, "first token ms", "× ours", "tokens/s", "MiB"):
        table.add_column(name, justify="right", overflow="fold")
    for point in benchmark.points:
        ratio = ratios.get(id(point))
        decode = point.median("decode")
        table.add_row(
            point.name,
            f"{point.resolution}²",
            str(point.visual_tokens),
            *(f"{point.median(stage) * 1e3:.1f}" for stage in STAGE_NAMES),
            milliseconds(point.timing),
            f"{ratio.ratio:.2f}" if ratio else "",
            "–" if math.isnan(decode) else f"{benchmark.config.batch_size / decode:.1f}",
            mebibytes(point.peak_memory),
        )
    return table


def print_ttft_benchmark(benchmark: TtftBenchmark, console: Console) -> None:
    config = benchmark.config
    subject = f"Decoder {config.decoder}" if config.model is None else f"Ours: {config.model}"
    lines = [
        f"ms: medians of up to {config.repetitions} runs, from image file to first token (± half the interquartile "
        f"range), of a prompt with {config.text_tokens} tokens besides the image's. {subject}, "
        f"{config.dtype}, batch {config.batch_size}. tokens/s: after the first token; MiB: what one run needs at its "
        "peak beyond the weights."
    ]
    fixed = [row for row in benchmark.ratios() if row.peer.resolution != row.ours.resolution]
    if fixed:
        lines.append(f"× ours, for models with a resolution of their own: ours at {fixed[0].ours.resolution}².")
    usual = min(config.resolutions, key=lambda side: abs(side - 1024))
    lines.append(f"Top operations of ours, {usual}²: {benchmark.profile.in_words}.")
    _print(console, benchmark.machine, ttft_table(benchmark), lines)


def ttft_benchmark_dict(benchmark: TtftBenchmark) -> dict[str, Any]:
    """The whole result, every run included, of types that JSON has. Times in seconds, memory in bytes."""
    config = {**vars(benchmark.config), "image": str(benchmark.config.image) if benchmark.config.image else None}
    return {
        "benchmark": "ttft",
        "machine": _machine_dict(benchmark.machine),
        "config": config,
        "points": [
            {
                "model": point.name,
                "resolution": point.resolution,
                "visual_tokens": point.visual_tokens,
                "first_token": point.median(),
                "stages": {name: point.median(name) for name in STAGE_NAMES},
                "tokens_per_second": _number(benchmark.config.batch_size / point.median("decode")),
                "peak_memory_bytes": point.peak_memory,
                "runs": [{name: _number(value) for name, value in vars(run).items()} for run in point.runs],
            }
            for point in benchmark.points
        ],
        "ratios": [
            {
                "peer": row.peer.name,
                "peer_resolution": row.peer.resolution,
                "our_resolution": row.ours.resolution,
                "ratio": row.ratio,
                "paper_ratio": paper_ratio(row.peer.name, benchmark.config.decoder),
            }
            for row in benchmark.ratios()
        ],
        "profile": asdict(benchmark.profile),
    }


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if math.isnan(value) else value


def ttft_benchmark_of(content: dict[str, Any]) -> TtftBenchmark:
    """The result that `ttft_benchmark_dict` made `content` of, on any machine.

    Raises:
        KeyError: if something is missing in it.
    """
    config, machine, profile = content["config"], content["machine"], content["profile"]
    # Peers and devices of the machine it was measured on need not be on this one; the points name the models.
    elsewhere: dict[str, Any] = {"peers": (), "ways": (), "device": "cpu", "image": None}
    points = [
        TtftPoint(
            point["model"],
            point["resolution"],
            point["visual_tokens"],
            tuple(
                Stages(**{name: math.nan if value is None else value for name, value in run.items()})
                for run in point["runs"]
            ),
            point["peak_memory_bytes"],
        )
        for point in content["points"]
    ]
    return TtftBenchmark(
        Machine(**{**machine, "cpu_flags": tuple(machine["cpu_flags"])}),
        TtftBenchmarkConfig(**{**config, "resolutions": tuple(config["resolutions"]), **elsewhere}),
        tuple(points),
        Profile(tuple(Share(**share) for share in profile["shares"]), profile["flop"], profile["flop_per_second"]),
    )


def targets_table(check: TargetCheck) -> Table:
    """One Markdown row per promise."""
    table = Table(box=box.MARKDOWN)
    table.add_column("what", overflow="fold")
    for name in ("at least", "aim", "as loaded", "optimized"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("", overflow="fold")
    for target in check.targets:
        measured = ("–" if ratio is None else f"{ratio:.2f}" for ratio in (target.as_loaded, target.optimized))
        table.add_row(target.what, f"{target.least:.1f}", f"{target.aim:.1f}", *measured, target.verdict)
    return table


def print_targets(check: TargetCheck, console: Console) -> None:
    cold, warm = check.seconds_to_optimize
    lines = [
        "How many times faster ours is, FastVLM-0.5B at 1024² unless it says otherwise; optimized: after "
        "`optimize_for_inference`.",
        f"Optimizing a bfloat16 encoder costs {cold:.1f} s with its first image, {warm:.1f} s in later processes.",
    ]
    _print(console, check.machine, targets_table(check), lines)


def targets_dict(check: TargetCheck) -> dict[str, Any]:
    return {
        "benchmark": "targets",
        "machine": _machine_dict(check.machine),
        "targets": [{**vars(target), "verdict": target.verdict} for target in check.targets],
        "seconds_to_optimize": list(check.seconds_to_optimize),
    }


def write_json(result: dict[str, Any], path: Path) -> None:
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
