# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Benchmark results as JSON: what `--json` writes, and what tables and pictures are made of.

A record names what was measured (`benchmark`), the `command`, the `date`, the `machine`, and has the `results`. Times
are in seconds, memory is in bytes.
"""

import json
import math
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from ..programs.files import write_text
from .configurations import OURS
from .encoder_latency import EncoderBenchmark, EncoderPoint
from .machine import Machine
from .timing import Timing
from .training import TrainingBenchmark
from .ttft import STAGE_NAMES, TtftBenchmark, TtftPoint


def make_record(benchmark: str, command: str, machine: Machine, results: dict[str, Any]) -> dict[str, Any]:
    """
    Args:
        benchmark: what was measured.
        command: that measured it, as one would type it.
        machine: that it ran on.
        results: of types that JSON has.
    """
    return {
        "benchmark": benchmark,
        "command": command,
        "date": date.today().isoformat(),
        "machine": {**vars(machine), "cpu_flags": list(machine.cpu_flags)},
        "results": results,
    }


def write_record(record: dict[str, Any], path: Path) -> None:
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def encoder_record(benchmark: EncoderBenchmark, command: str = "") -> dict[str, Any]:
    """Every repetition included."""
    results = {
        "config": _config(benchmark.config),
        "points": [_encoder_point(point) for point in benchmark.points],
        "relative_differences": benchmark.differences,
        "profiles": {dtype: asdict(profile) for dtype, profile in benchmark.profiles.items()},
    }
    return make_record("encoder", command, benchmark.machine, results)


def ttft_record(benchmark: TtftBenchmark, command: str = "") -> dict[str, Any]:
    """Every run included."""
    results = {
        "config": _config(benchmark.config),
        "points": [_ttft_point(point, benchmark.config.batch_size) for point in benchmark.points],
        "ratios": [
            {
                "peer": row.peer.name,
                "peer_resolution": row.peer.resolution,
                "our_resolution": row.ours.resolution,
                "ratio": row.ratio,
            }
            for row in benchmark.ratios()
        ],
        "profile": asdict(benchmark.profile),
    }
    return make_record("ttft", command, benchmark.machine, results)


def training_record(benchmark: TrainingBenchmark, command: str = "") -> dict[str, Any]:
    """Every step included."""
    results = {
        "config": _config(benchmark.config),
        "points": [
            {
                "method": point.method,
                "trainable": point.trainable,
                "tokens_per_step": point.tokens,
                "tokens_per_second": point.tokens_per_second(),
                **_timing(point.timing),
            }
            for point in benchmark.points
        ],
    }
    return make_record("train", command, benchmark.machine, results)


def _config(config: Any) -> dict[str, Any]:
    """A configuration's fields; of peers their names, of an encoder what is not its default."""
    values = {**vars(config)}
    if "peers" in values:
        values["peers"] = [peer.name for peer in config.peers]
    if "encoder" in values:
        values["encoder"] = config.encoder.to_diff_dict()
    if values.get("image") is not None:
        values["image"] = str(config.image)
    return values


def _timing(timing: Timing) -> dict[str, Any]:
    return {
        "median_s": timing.median,
        "spread_s": timing.spread,
        "quartiles_s": list(timing.quartiles),
        "seconds": list(timing.seconds),
        "peak_memory_bytes": timing.peak_memory,
    }


def _encoder_point(point: EncoderPoint) -> dict[str, Any]:
    return {
        "resolution": point.resolution,
        "dtype": point.dtype,
        "batch_size": point.batch_size,
        "timings": {name: _timing(timing) for name, timing in point.timings.items()},
        "ratios": {name: point.ratio(name) for name in point.timings if name != OURS},
        "images_per_second": {name: point.images_per_second(name) for name in point.timings},
    }


def _ttft_point(point: TtftPoint, batch_size: int) -> dict[str, Any]:
    return {
        "model": point.name,
        "resolution": point.resolution,
        "visual_tokens": point.visual_tokens,
        "first_token": point.median(),
        "first_token_spread": point.timing.spread,
        "stages": {name: point.median(name) for name in STAGE_NAMES},
        "tokens_per_second": _number(batch_size / point.median("decode")),
        "peak_memory_bytes": point.peak_memory,
        "runs": [{name: _number(value) for name, value in vars(run).items()} for run in point.runs],
    }


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if math.isnan(value) else value
