# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Latency of the vision encoder beside others on the same images (paper, figure 2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..modeling_fastvithd import FastViTHDModel
from .configurations import OURS, EncoderBenchmarkConfig, require_resolutions
from .encoder_subjects import Encoder
from .machine import LIBRARIES, Machine, describe_machine
from .profiling import Profile, profile_call
from .synthetic import random_model, random_pixels
from .timing import Timing, call_peak_memory, interleaved_latencies, pairwise_ratio, thread_count


@dataclass(frozen=True)
class EncoderPoint:
    """
    Timings of every encoder at one resolution and dtype, by name; `"ours"` is one of them.

    One that does not run in the dtype is missing.
    """

    resolution: int
    dtype: str
    batch_size: int
    timings: dict[str, Timing]

    def ratio(self, peer: str, base: str = OURS) -> float:
        """How many times faster `base` is than `peer`."""
        return pairwise_ratio(self.timings[peer].seconds, self.timings[base].seconds)

    def images_per_second(self, name: str = OURS) -> float:
        """Throughput at the median latency."""
        return self.batch_size / self.timings[name].median


@dataclass(frozen=True)
class EncoderBenchmark:
    """
    Result of `run_encoder_benchmark`.

    Args:
        machine (`Machine`): what it ran on.
        config (`EncoderBenchmarkConfig`): what was asked for.
        points (`list[EncoderPoint]`): one per dtype and resolution.
        differences (`dict[str, dict[str, float]]`): by dtype and name, the largest difference of a feature map from
            ours, relative to the largest value in ours, at the first resolution; of those with the same weights.
        profiles (`dict[str, Profile]`): by dtype, what ours spends its time on at the last resolution.
    """

    machine: Machine
    config: EncoderBenchmarkConfig
    points: list[EncoderPoint]
    differences: dict[str, dict[str, float]]
    profiles: dict[str, Profile]


def relative_difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference as a fraction of the largest absolute expected value."""
    expected = expected.float()
    return float((actual.float() - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def measure_point(
    encoders: Mapping[str, Encoder], config: EncoderBenchmarkConfig, resolution: int, dtype: str
) -> EncoderPoint:
    """Latency and peak memory of each encoder on the same images."""
    device = torch.device(config.device)
    images = random_pixels(config.batch_size, resolution, getattr(torch, dtype), device)
    calls = {name: partial(encoder, pixel_values=images) for name, encoder in encoders.items()}
    for call in calls.values():  # what the first call of a size sets up once is not its need
        call()
    memory = {name: call_peak_memory(call, device) for name, call in calls.items()}
    latencies = interleaved_latencies(calls, config.repetitions, config.warmup, device)
    timings = {name: Timing(latencies[name], memory[name]) for name in calls}
    return EncoderPoint(resolution, dtype, config.batch_size, timings)


@torch.no_grad()
def measure_differences(encoders: Mapping[str, Encoder], images: torch.Tensor) -> dict[str, float]:
    """How far the feature map of each encoder is from ours (see `relative_difference`)."""
    features = {name: encoder(pixel_values=images).last_hidden_state for name, encoder in encoders.items()}
    return {name: relative_difference(features[name], features[OURS]) for name in features if name != OURS}


def build_ours(config: EncoderBenchmarkConfig, dtype: torch.dtype) -> Any:
    """The encoder of the checkpoint that is asked for, or random weights.

    Raises:
        ValueError: if it does not take one of the resolutions.
    """
    if config.model is None:
        return random_model(config.encoder, dtype)
    encoder: Any = FastViTHDModel.from_pretrained(config.model, dtype=dtype).eval()
    require_resolutions(config.resolutions, encoder.config.stride)
    return encoder


@torch.no_grad()
def run_encoder_benchmark(
    config: EncoderBenchmarkConfig, progress: Callable[[str], None] = lambda message: None
) -> EncoderBenchmark:
    """Time our encoder and others in one process, taking turns, each as its users get it: eager, no options set.

    Args:
        config: what to measure.
        progress: told, in a few words, what is being done.
    """
    device = torch.device(config.device)
    points, differences, profiles = [], {}, {}
    with thread_count(config.threads):
        machine = describe_machine(device, (*LIBRARIES, *(name for each in config.subjects for name in each.requires)))
        for name in config.dtypes:
            dtype = getattr(torch, name)
            progress(f"{name}: building the encoders")
            encoders = {OURS: build_ours(config, dtype).to(device)}
            able = [subject for subject in config.subjects if subject.dtypes is None or dtype in subject.dtypes]
            for subject in able:
                progress(f"{name}: building {subject.name}")
                encoders[subject.name] = subject.build(encoders[OURS])
            alike = {subject.name: encoders[subject.name] for subject in able if subject.same_weights}
            images = random_pixels(1, config.resolutions[0], dtype, device)
            differences[name] = measure_differences({OURS: encoders[OURS], **alike}, images)
            for resolution in config.resolutions:
                progress(f"{name}, {resolution}²: {config.warmup} + {config.repetitions} turns")
                points.append(measure_point(encoders, config, resolution, name))
            images = random_pixels(config.batch_size, config.resolutions[-1], dtype, device)
            profiles[name] = profile_call(partial(encoders[OURS], pixel_values=images), device, dtype)
    return EncoderBenchmark(machine, config, points, differences, profiles)
