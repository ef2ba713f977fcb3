# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Latency, its statistics and peak memory of calls, on any device."""

import ctypes
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


@dataclass(frozen=True)
class Timing:
    """
    What one call took.

    Args:
        seconds (`tuple[float, ...]`): latency of each repetition, in the order they were measured.
        peak_memory (`int`, *optional*): bytes that the call needed at its peak beyond those in use before it, that is
            activations and scratch space without weights; `None` where the platform does not tell.
    """

    seconds: tuple[float, ...]
    peak_memory: int | None = None

    def __post_init__(self):
        if not self.seconds:
            raise ValueError("A timing needs at least one repetition.")

    @property
    def median(self) -> float:
        """Median latency in seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the latencies in seconds, between which half of them lie."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles in seconds."""
        first, third = self.quartiles
        return (third - first) / 2


def pairwise_ratio(peer: Sequence[float], ours: Sequence[float]) -> float:
    """Median of `peer / ours` over repetitions measured in turn, which drift of the machine's speed cancels in.

    Raises:
        ValueError: if the two differ in length.
    """
    if len(peer) != len(ours):
        raise ValueError(f"Paired latencies must be equally many, got {len(peer)} and {len(ours)}.")
    return statistics.median(their / our for their, our in zip(peer, ours))


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def interleaved_latencies(
    calls: Mapping[str, Callable[[], Any]], repetitions: int, warmup: int, device: torch.device
) -> dict[str, tuple[float, ...]]:
    """Latencies in seconds of several calls, run in turn (A B A B ...).

    Args:
        calls: what to run, by name.
        repetitions: measured runs of each call.
        warmup: runs of each call before them, not measured.
        device: waited for around each measured run.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(warmup + repetitions):
        for name, call in calls.items():
            synchronize(device)
            start = time.perf_counter()
            call()
            synchronize(device)
            if repetition >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: tuple(values) for name, values in seconds.items()}


def process_memory(field: str) -> int:
    """Bytes of a field of Linux's `/proc/self/status`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def _give_freed_memory_back() -> None:
    """Empty the C library's cache of freed memory, which would hide as much of a call's need from the system."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def call_peak_memory(call: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that `call` needs at its peak beyond those in use before it; `None` where the platform does not tell.

    On a GPU what PyTorch allocates; on a CPU the process's resident set, whose high-water mark Linux can reset.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    reset = Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):  # not Linux, or a container that forbids it
        return None
    _give_freed_memory_back()
    reset.write_text("5")
    before = process_memory("VmRSS")
    call()
    return max(process_memory("VmHWM") - before, 0)


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call it in a process of its own, where no earlier call has left memory or caches behind."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return _result_of(pool.submit(function, *arguments))


def _result_of(future: "Future[Result]") -> Result:
    """
    Raises:
        ChildProcessError: if the process has been killed.
    """
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError("A process was killed while it measured, for want of memory perhaps.") from error


class OwnProcess:
    """An object that lives in a process of its own, where memory that others have freed makes nothing faster.

    Args:
        make: its class, or what else makes it.
        arguments: of `make`; as those of its methods and what they return, they must be picklable.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any):
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        _result_of(self.pool.submit(_make_resident, make, arguments))

    def call(self, method: str, *arguments: Any) -> Any:
        return _result_of(self.pool.submit(_call_resident, method, arguments))

    def __enter__(self) -> "OwnProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        self.pool.shutdown()


_resident: list[Any] = []  # of an OwnProcess, in that process


def _make_resident(make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _resident.append(make(*arguments))


def _call_resident(method: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(_resident[0], method)(*arguments)


@contextmanager
def thread_count(threads: int | None) -> Iterator[None]:
    """Run operations with that many threads inside the context; `None` leaves PyTorch's own choice."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
