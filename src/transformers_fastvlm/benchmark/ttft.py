# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Time to first token, from image file to token, and where it goes (paper, figure 4 and tables 4 to 6)."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from ..inference import load_model
from ..programs.mistakes import require_device
from .machine import Machine, describe_machine
from .operations import Profile, profile_call
from .settings import DTYPES, OURS, require_known
from .timing import OwnProcess, Timing, call_peak_memory, pairwise_ratio, synchronize, thread_count
from .vlms import DECODERS, OURS_KIND, TILED_RESOLUTION, VLM_PEERS, WAYS, Vlm, VlmKind, write_photograph


@dataclass(frozen=True)
class Stages:
    """
    One run from image file to text, in seconds.

    Args:
        preprocess: the file, decoded, to pixels.
        encoder: the vision encoder, all crops.
        projector: from its features to visual tokens.
        prefill: all tokens of the prompt through the decoder, to the scores of the next.
        other: `generate`'s own work around them, and choosing the first token.
        decode: per token after the first.
    """

    preprocess: float
    encoder: float
    projector: float
    prefill: float
    other: float
    decode: float

    @property
    def first_token(self) -> float:
        return sum(getattr(self, name) for name in STAGE_NAMES)


STAGE_NAMES = ("preprocess", "encoder", "projector", "prefill", "other")  # up to the first token


class StageClock(BaseStreamer, LogitsProcessor):
    """Notes when a model's `generate` reaches the end of each stage; it is handed over as streamer and processor."""

    def __init__(self, vlm: Vlm):
        self.device = vlm.model.device
        self.marks: dict[str, float] = {}
        self.tokens: list[float] = []
        base = vlm.model.base_model
        self.hooks = []
        for name, module in (("encoder", base.vision_tower), ("projector", base.multi_modal_projector)):
            self.hooks.append(module.register_forward_pre_hook(self._marker(f"{name} starts")))
            self.hooks.append(module.register_forward_hook(self._marker(f"{name} ends")))

    def _marker(self, name: str) -> Callable[..., None]:
        return lambda *_: self.mark(name)

    def mark(self, name: str) -> None:
        synchronize(self.device)
        self.marks[name] = time.perf_counter()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        if "logits" not in self.marks:
            self.mark("logits")
        return scores

    def put(self, value: torch.Tensor) -> None:
        synchronize(self.device)
        self.tokens.append(time.perf_counter())  # the first one is the prompt

    def end(self) -> None:
        for hook in self.hooks:
            hook.remove()


@torch.no_grad()
def run_once(vlm: Vlm, paths: list[Path], prompt: torch.Tensor, new_tokens: int) -> Stages:
    """Greedy generation from image files, each stage timed. The device is waited for between stages."""
    clock = StageClock(vlm)
    start = time.perf_counter()
    pixels = vlm.pixels(paths)
    clock.mark("pixels")
    vlm.model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        **pixels,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        do_sample=False,
        streamer=clock,
        logits_processor=LogitsProcessorList([clock]),
    )
    marks, (_, first, *later) = clock.marks, clock.tokens
    encoder = marks["encoder ends"] - marks["encoder starts"]
    projector = marks["projector ends"] - marks["projector starts"]
    preprocess = marks["pixels"] - start
    prefill = marks["logits"] - marks["projector ends"]
    return Stages(
        preprocess=preprocess,
        encoder=encoder,
        projector=projector,
        prefill=prefill,
        other=first - start - preprocess - encoder - projector - prefill,
        decode=(later[-1] - first) / len(later) if later else float("nan"),
    )


@dataclass(frozen=True)
class TtftBenchmarkConfig:
    """
    What `run_ttft_benchmark` measures.

    Args:
        resolutions: of ours and of peers that take any; 2048 is ours with tiles.
        decoder: of `DECODERS`.
        dtype: of all weights.
        batch_size: prompts per call, one image each.
        peers: of `VLM_PEERS`.
        ways: ours again after `optimize_for_inference`, of `WAYS`.
        model: folder or Hub id in place of ours with random weights.
        image: a file; by default a made-up photograph of 1152x1152 pixels.
        text_tokens: of the prompt, besides the image's.
        new_tokens: generated, the first included.
        repetitions, warmup: measured runs, and runs before them.
        budget: seconds of measured runs for each model and resolution, after which none begins.
        threads: CPU threads; `None` for PyTorch's choice.
        device: where to run.

    Raises:
        ValueError: if a name is unknown or a count is too small.
        MissingPeerError: if a peer's library is not installed.
    """

    resolutions: tuple[int, ...] = (256, 512, 768, 1024, 1536, TILED_RESOLUTION)
    decoder: str = "0.5B"
    dtype: str = "bfloat16"
    batch_size: int = 1
    peers: tuple[str, ...] = ("upstream", "llava-onevision", "llava-1.5")
    ways: tuple[str, ...] = ()
    model: str | None = None
    image: Path | None = None
    text_tokens: int = 40
    new_tokens: int = 16
    repetitions: int = 5
    warmup: int = 1
    budget: float = 60.0
    threads: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_known("decoder", [self.decoder], DECODERS)
        require_known("dtype", [self.dtype], DTYPES)
        require_known("peer", self.peers, VLM_PEERS)
        require_known("way", self.ways, WAYS)
        require_device(self.device)
        if not self.resolutions or any(side < 64 or side % 64 for side in self.resolutions):
            raise ValueError(f"Resolutions must be positive multiples of 64, got {list(self.resolutions)}.")
        if min(self.batch_size, self.text_tokens, self.new_tokens, self.repetitions) < 1 or self.warmup < 0:
            raise ValueError("Counts must be at least 1, `warmup` at least 0.")
        if self.budget < 0 or (self.threads is not None and self.threads < 1):
            raise ValueError("`budget` must be at least 0, `threads` at least 1.")
        if self.image is not None and not self.image.is_file():
            raise ValueError(f"There is no image {self.image}.")
        for name in self.peers:
            VLM_PEERS[name].require(name)
        for name in self.ways:
            WAYS[name].require(name)


@dataclass(frozen=True)
class TtftPoint:
    """
    Args:
        name: of the model: `"ours"`, or a peer.
        resolution: side of the image in pixels.
        visual_tokens: of one image.
        runs: one per repetition.
        peak_memory: bytes of one run beyond the weights; `None` where the platform does not tell.
    """

    name: str
    resolution: int
    visual_tokens: int
    runs: tuple[Stages, ...]
    peak_memory: int | None

    def median(self, stage: str = "first_token") -> float:
        """Seconds."""
        return statistics.median(getattr(run, stage) for run in self.runs)

    @property
    def timing(self) -> Timing:
        """Of the time to first token."""
        return Timing(tuple(run.first_token for run in self.runs), self.peak_memory)


@dataclass(frozen=True)
class TtftRatio:
    """
    Args:
        peer: what is compared.
        ours: with what: at the same resolution, or, for a peer with one of its own, at 1024 or the nearest to it.
        ratio: how many times sooner ours has its first token.
    """

    peer: TtftPoint
    ours: TtftPoint
    ratio: float


@dataclass(frozen=True)
class TtftBenchmark:
    """Result of `run_ttft_benchmark`; `profile` is that of ours at the resolution nearest to 1024."""

    machine: Machine
    config: TtftBenchmarkConfig
    points: tuple[TtftPoint, ...]
    profile: Profile

    def ratios(self) -> list[TtftRatio]:
        """One for each point of a peer, and of ours after `optimize_for_inference`."""
        ours = {point.resolution: point for point in self.points if point.name == OURS}
        usual = min(ours.values(), key=lambda point: abs(point.resolution - 1024))
        ratios = []
        for peer in self.points:
            if peer.name == OURS:
                continue
            any_resolution = peer.name not in VLM_PEERS or VLM_PEERS[peer.name].resolution is None
            base = ours[peer.resolution] if any_resolution else usual
            theirs, own = peer.timing, base.timing
            paired = len(theirs.seconds) == len(own.seconds) and peer.resolution == base.resolution
            ratio = pairwise_ratio(theirs.seconds, own.seconds) if paired else theirs.median / own.median
            ratios.append(TtftRatio(peer, base, ratio))
        return ratios


class TimedModel:
    """A model that is timed; what runs in its process.

    Args:
        name: `"ours"`, or a peer or way.
        kind: of the model.
        paths: of the images, one per prompt.
        config: what to measure.
    """

    def __init__(self, name: str, kind: VlmKind, paths: list[Path], config: TtftBenchmarkConfig):
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.kind, self.paths, self.config = kind, paths, config
        model: Any
        if config.model is not None and (name == OURS or name in WAYS):
            model = load_model(config.model, dtype=DTYPES[config.dtype])
        else:
            model = kind.build(config.decoder, DTYPES[config.dtype])
        self.model = model.to(config.device).eval()
        if name in WAYS:
            WAYS[name].apply(self.model)

    def see(self, resolution: int) -> int:
        """Take images of that resolution from now on.

        Returns:
            visual tokens of one.
        """
        self.vlm = Vlm(self.model, self.kind.processor(resolution), resolution)
        self.prompt = self.vlm.prompt(self.paths, self.config.text_tokens)
        return self.prompt.shape[1] - self.config.text_tokens

    def run(self, new_tokens: int | None = None) -> Stages:
        return run_once(self.vlm, self.paths, self.prompt, new_tokens or self.config.new_tokens)

    def peak_memory(self) -> int | None:
        return call_peak_memory(self.run, self.model.device)

    def profile(self) -> Profile:
        """Of the way to the first token."""
        return profile_call(partial(self.run, 1), self.model.device, DTYPES[self.config.dtype])


def measure_in_turn(models: Mapping[str, OwnProcess], resolution: int, config: TtftBenchmarkConfig) -> list[TtftPoint]:
    """Runs of several `TimedModel`s in turn (A B A B ...), as many as fit into the budget of each."""
    tokens = {name: model.call("see", resolution) for name, model in models.items()}
    memory = {}
    for name, model in models.items():
        for _ in range(config.warmup):
            model.call("run")
        memory[name] = model.call("peak_memory")
    runs: dict[str, list[Stages]] = {name: [] for name in models}
    start = time.perf_counter()
    for repetition in range(config.repetitions):
        if repetition > 0 and time.perf_counter() - start > config.budget * len(models):
            break
        for name, model in models.items():
            runs[name].append(model.call("run"))
    return [TtftPoint(name, resolution, tokens[name], tuple(runs[name]), memory[name]) for name in models]


def run_ttft_benchmark(
    config: TtftBenchmarkConfig, progress: Callable[[str], None] = lambda message: None
) -> TtftBenchmark:
    """
    Time ours and its peers, each with the defaults that its users get, and in a process of its own, as they do.

    At each resolution, ours and the peers that run at any take turns; the others follow, one after the other.

    Args:
        config: what to measure.
        progress: told, in a few words, what is being done.
    """
    points = []
    with thread_count(config.threads):
        machine = describe_machine(torch.device(config.device))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        paths = [config.image or write_photograph(Path(folder), 1152, 1152)] * config.batch_size
        peers = {name: VLM_PEERS[name] for name in config.peers}
        together = {name: kind for name, kind in peers.items() if kind.resolution is None}
        models = {}
        for name, kind in {OURS: OURS_KIND, **together, **dict.fromkeys(config.ways, OURS_KIND)}.items():
            progress(f"building {name}")
            models[name] = processes.enter_context(OwnProcess(TimedModel, name, kind, paths, config))
        for resolution in config.resolutions:
            progress(f"{', '.join(models)} at {resolution}²")
            able = [name for name in models if name not in together or resolution != TILED_RESOLUTION]
            points += measure_in_turn({name: models[name] for name in able}, resolution, config)
        progress("profiling ours")
        models[OURS].call("see", min(config.resolutions, key=lambda side: abs(side - 1024)))
        profile = models[OURS].call("profile")
        processes.pop_all().close()
        for name, kind in peers.items():
            if kind.resolution is not None:
                progress(f"{name} at {kind.resolution}²")
                with OwnProcess(TimedModel, name, kind, paths, config) as model:
                    points += measure_in_turn({name: model}, kind.resolution, config)
    return TtftBenchmark(machine, config, tuple(points), profile)
