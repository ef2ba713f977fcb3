# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Which operations of a call take its time, as PyTorch's profiler sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Share:
    """
    Args:
        name: of an operation or a kernel.
        share: of the time of all, 0 to 1.
    """

    name: str
    share: float


def top_operations(call: Callable[[], Any], device: torch.device, count: int = 6) -> list[Share]:
    """The operations on `device` that take most of a call's time, the longest first, each without what it calls."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        call()
    seconds = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    total = sum(seconds.values())
    longest = sorted(seconds, key=lambda name: seconds[name], reverse=True)[:count]
    return [Share(name.removeprefix("aten::"), seconds[name] / total) for name in longest]


def in_words(shares: list[Share]) -> str:
    return ", ".join(f"{each.name} {each.share:.0%}" for each in shares)
