# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Latency of the vision encoder beside its peers', with the same weights on the same images (paper, figure 2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch

from ..configuration_fastvlm import FastViTHDConfig
from ..programs.mistakes import require_device
from .encoders import PEERS, Encoder
from .machine import Machine, describe_machine
from .operations import Profile, profile_call
from .settings import DTYPES, OURS, random_model, require_known
from .timing import Timing, call_peak_memory, interleaved_latencies, pairwise_ratio, thread_count


@dataclass(frozen=True)
class EncoderBenchmarkConfig:
    """
    What `run_encoder_benchmark` measures.

    Args:
        resolutions (`tuple[int, ...]`): sides of the square images in pixels.
        dtypes (`tuple[str, ...]`): names of floating point types.
        batch_size (`int`): images per call.
        repetitions, warmup (`int`): measured calls per encoder and point, and unmeasured ones before them.
        threads (`int`, *optional*): CPU threads; PyTorch's own choice without it.
        device (`str`): as `torch.device` takes it.
        peers (`tuple[str, ...]`): what to time beside ours, of `PEERS`.
        encoder (`FastViTHDConfig`): size of the encoder. The default is FastViTHD, with layer scales that let the
            blocks show in a comparison of outputs, as a new model's do not, without the depth blowing them up.

    Raises:
        ValueError: if a value is unknown or does not fit the encoder.
        MissingPeerError: if a peer's library is not installed.
    """

    resolutions: tuple[int, ...] = (256, 512, 1024)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    batch_size: int = 1
    repetitions: int = 10
    warmup: int = 2
    threads: int | None = None
    device: str = "cpu"
    peers: tuple[str, ...] = ("upstream",)
    encoder: FastViTHDConfig = field(default_factory=lambda: FastViTHDConfig(layer_scale_init_value=0.01))

    def __post_init__(self):
        stride = self.encoder.stride
        if not self.resolutions or any(side < stride or side % stride for side in self.resolutions):
            raise ValueError(f"Resolutions must be positive multiples of {stride}, got {list(self.resolutions)}.")
        require_known("dtype", self.dtypes, DTYPES)
        require_known("peer", self.peers, PEERS)
        if not self.dtypes:
            raise ValueError(f"Name at least one dtype of {', '.join(DTYPES)}.")
        for name, least in (("batch_size", 1), ("repetitions", 1), ("warmup", 0), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")
        require_device(self.device)
        for name in self.peers:
            PEERS[name].require(name)


@dataclass(frozen=True)
class EncoderPoint:
    """
    Timings of every encoder at one resolution and dtype, by name; `"ours"` is one of them.

    A peer that does not run in the dtype is missing.
    """

    resolution: int
    dtype: str
    batch_size: int
    timings: dict[str, Timing]

    def ratio(self, peer: str, base: str = OURS) -> float:
        """How many times faster `base` is than the peer."""
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
        differences (`dict[str, dict[str, float]]`): by dtype and peer, the largest difference of the peer's feature
            map from ours, relative to the largest value in ours, at the first resolution; peers of the same weights.
        profiles (`dict[str, Profile]`): by dtype, what ours spends its time on at the last resolution.
    """

    machine: Machine
    config: EncoderBenchmarkConfig
    points: list[EncoderPoint]
    differences: dict[str, dict[str, float]]
    profiles: dict[str, Profile]


def random_images(batch_size: int, resolution: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`(batch, 3, resolution, resolution)` pixels in 0..1, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch_size, 3, resolution, resolution, generator=generator).to(device, dtype)


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
    images = random_images(config.batch_size, resolution, DTYPES[dtype], device)
    calls = {name: partial(encoder, pixel_values=images) for name, encoder in encoders.items()}
    for call in calls.values():  # what the first call of a size sets up once is not its need
        call()
    memory = {name: call_peak_memory(call, device) for name, call in calls.items()}
    latencies = interleaved_latencies(calls, config.repetitions, config.warmup, device)
    timings = {name: Timing(latencies[name], memory[name]) for name in calls}
    return EncoderPoint(resolution, dtype, config.batch_size, timings)


@torch.no_grad()
def measure_differences(encoders: Mapping[str, Encoder], images: torch.Tensor) -> dict[str, float]:
    """How far the feature map of each peer with our weights is from ours (see `relative_difference`)."""
    alike = {name: each for name, each in encoders.items() if name == OURS or PEERS[name].same_weights}
    features = {name: encoder(pixel_values=images).last_hidden_state for name, encoder in alike.items()}
    return {name: relative_difference(features[name], features[OURS]) for name in features if name != OURS}


@torch.no_grad()
def run_encoder_benchmark(
    config: EncoderBenchmarkConfig, progress: Callable[[str], None] = lambda message: None
) -> EncoderBenchmark:
    """Time our encoder and its peers in one process, taking turns, each as its users get it: eager, no options set.

    Args:
        config: what to measure.
        progress: told, in a few words, what is being done.
    """
    device = torch.device(config.device)
    points, differences, profiles = [], {}, {}
    with thread_count(config.threads):
        machine = describe_machine(device)
        for dtype in config.dtypes:
            progress(f"{dtype}: building the encoders")
            encoders = {OURS: random_model(config.encoder, DTYPES[dtype]).to(device)}
            for name in config.peers:
                known = PEERS[name].dtypes
                if known is None or DTYPES[dtype] in known:
                    progress(f"{dtype}: building {name}")
                    encoders[name] = PEERS[name].build(encoders[OURS])
            images = random_images(1, config.resolutions[0], DTYPES[dtype], device)
            differences[dtype] = measure_differences(encoders, images)
            for resolution in config.resolutions:
                progress(f"{dtype}, {resolution}²: {config.warmup} + {config.repetitions} turns")
                points.append(measure_point(encoders, config, resolution, dtype))
            images = random_images(config.batch_size, config.resolutions[-1], DTYPES[dtype], device)
            call = partial(encoders[OURS], pixel_values=images)
            profiles[dtype] = profile_call(call, device, DTYPES[dtype])
    return EncoderBenchmark(machine, config, points, differences, profiles)


def shortfalls(benchmark: EncoderBenchmark, least_ratio: float = 1.0) -> list[str]:
    """Points at which ours is not `least_ratio` times as fast as a peer, in words; empty if there are none."""
    return [
        f"{point.resolution}² {point.dtype}: {point.ratio(peer):.2f} × {peer}, wanted {least_ratio:.2f} ×"
        for point in benchmark.points
        for peer in point.timings
        if peer != OURS and point.ratio(peer) < least_ratio
    ]
