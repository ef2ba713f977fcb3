# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a call goes, and what arithmetic alone would take of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from .timing import synchronize


@dataclass(frozen=True)
class Share:
    """
    Args:
        name: of an operation or a kernel.
        share: of the time of all, 0 to 1.
    """

    name: str
    share: float


@dataclass(frozen=True)
class Profile:
    """
    Args:
        shares: the operations that take most of the time, the longest first, each without what it calls.
        flop: multiplications and additions of the matrix products and convolutions.
        flop_per_second: that the machine reaches in one large matrix product of the same dtype.
    """

    shares: tuple[Share, ...]
    flop: int
    flop_per_second: float

    @property
    def in_words(self) -> str:
        shares = ", ".join(f"{each.name} {each.share:.0%}" for each in self.shares)
        return (
            f"{shares}; {self.flop / 1e9:.0f} GFLOP, {self.flop / self.flop_per_second:.2f} s at the "
            f"{self.flop_per_second / 1e9:.0f} GFLOP/s of one large matrix product"
        )


def profile_call(call: Callable[[], Any], device: torch.device, dtype: torch.dtype, count: int = 6) -> Profile:
    """Run `call` twice more, under PyTorch's profiler and its counter of operations."""
    counter = FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.mkldnn._linear_pointwise: _linear_flop} if device.type == "cpu" else {},
    )
    with counter:
        call()
    return Profile(_top_operations(call, device, count), counter.get_total_flops(), _matrix_speed(device, dtype))


def _top_operations(call: Callable[[], Any], device: torch.device, count: int) -> tuple[Share, ...]:
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
    return tuple(Share(name.removeprefix("aten::"), seconds[name] / total) for name in longest)


def _linear_flop(input_shape: Any, weight_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * torch.Size(input_shape).numel() * weight_shape[0]


@torch.no_grad()
def _matrix_speed(device: torch.device, dtype: torch.dtype, side: int = 2048) -> float:
    """Multiplications and additions a second, the best of five 1x1 convolutions, which oneDNN computes on any CPU."""
    pixels = torch.rand(1, side, side // 64, 64, dtype=dtype, device=device).contiguous(
        memory_format=torch.channels_last
    )
    weights = torch.rand(side, side, 1, 1, dtype=dtype, device=device)
    seconds = []
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        nn.functional.conv2d(pixels, weights)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)
