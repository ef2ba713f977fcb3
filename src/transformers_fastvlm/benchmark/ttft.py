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

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from .configurations import OURS, TILED_RESOLUTION, TtftBenchmarkConfig
from .machine import LIBRARIES, Machine, describe_machine
from .profiling import Profile, profile_call
from .synthetic import write_photograph
from .timing import OwnProcess, Timing, call_peak_memory, pairwise_ratio, synchronize, thread_count
from .vlm_subjects import OUR_VLM, Vlm, VlmSubject


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
class TtftPoint:
    """
    Args:
        name: of the model: `"ours"`, a way or a peer.
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
        fixed = {subject.name for subject in self.config.subjects if subject.resolution is not None}
        ratios = []
        for peer in self.points:
            if peer.name == OURS:
                continue
            base = usual if peer.name in fixed else ours[peer.resolution]
            theirs, own = peer.timing, base.timing
            paired = len(theirs.seconds) == len(own.seconds) and peer.resolution == base.resolution
            ratio = pairwise_ratio(theirs.seconds, own.seconds) if paired else theirs.median / own.median
            ratios.append(TtftRatio(peer, base, ratio))
        return ratios


class TimedModel:
    """A model that is timed; what runs in its process.

    Args:
        subject: the model.
        paths: of the images, one per prompt.
        config: what to measure.
    """

    def __init__(self, subject: VlmSubject, paths: list[Path], config: TtftBenchmarkConfig):
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.subject, self.paths, self.config = subject, paths, config
        self.model = subject.build(config).to(config.device)

    def see(self, resolution: int) -> int:
        """Take images of that resolution from now on.

        Returns:
            visual tokens of one.
        """
        self.vlm = Vlm(self.model, self.subject.processor(resolution), resolution)
        self.prompt = self.vlm.prompt(self.paths, self.config.text_tokens)
        return self.prompt.shape[1] - self.config.text_tokens

    def run(self, new_tokens: int | None = None) -> Stages:
        return run_once(self.vlm, self.paths, self.prompt, new_tokens or self.config.new_tokens)

    def peak_memory(self) -> int | None:
        return call_peak_memory(self.run, self.model.device)

    def profile(self) -> Profile:
        """Of the way to the first token."""
        return profile_call(partial(self.run, 1), self.model.device, getattr(torch, self.config.dtype))


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
    Time ours and others, each with the defaults that its users get, and in a process of its own, as they do.

    At each resolution, ours and those that run at any take turns; the others follow, one after the other.

    Args:
        config: what to measure.
        progress: told, in a few words, what is being done.
    """
    points = []
    with thread_count(config.threads):
        libraries = (*LIBRARIES, *(name for each in config.subjects for name in each.requires))
        machine = describe_machine(torch.device(config.device), libraries)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        paths = [config.image or write_photograph(Path(folder), 1152, 1152)] * config.batch_size
        together = [OUR_VLM, *(subject for subject in config.subjects if subject.resolution is None)]
        models = {}
        for subject in together:
            progress(f"building {subject.name}")
            models[subject.name] = processes.enter_context(OwnProcess(TimedModel, subject, paths, config))
        for resolution in config.resolutions:
            able = [subject.name for subject in together if subject.tiles or resolution != TILED_RESOLUTION]
            progress(f"{', '.join(able)} at {resolution}²")
            points += measure_in_turn({name: models[name] for name in able}, resolution, config)
        progress("profiling ours")
        models[OURS].call("see", min(config.resolutions, key=lambda side: abs(side - 1024)))
        profile = models[OURS].call("profile")
        processes.pop_all().close()
        for subject in config.subjects:
            if subject.resolution is not None:
                progress(f"{subject.name} at {subject.resolution}²")
                with OwnProcess(TimedModel, subject, paths, config) as model:
                    points += measure_in_turn({subject.name: model}, subject.resolution, config)
    return TtftBenchmark(machine, config, tuple(points), profile)
