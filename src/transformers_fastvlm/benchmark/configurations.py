# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
What each benchmark measures: the options of `fastvlm bench`, with their defaults, and what else a caller may set.

Imports nothing that takes time before a configuration is made, so that the command's help comes at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..programs.mistakes import require_device

if TYPE_CHECKING:
    from ..configuration_fastvlm import FastViTHDConfig
    from .encoder_subjects import EncoderSubject
    from .training import TrainingSubject
    from .vlm_subjects import VlmSubject

OURS = "ours"
DTYPES = ("float32", "bfloat16", "float16")
CACHED = "-cached"  # ends the names of methods without the encoder
METHODS = ("lora", "qlora", "full", f"lora{CACHED}", f"qlora{CACHED}")
TILED_RESOLUTION = 2048  # a 2x2 grid of 1024 and the overview, as in the paper


def require_known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """
    Raises:
        ValueError: if a name is not known.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"Unknown {kind} {name!r}; known: {', '.join(known)}.")


def require_resolutions(resolutions: tuple[int, ...], stride: int) -> None:
    """
    Raises:
        ValueError: if there is none, or an encoder of this stride does not take one.
    """
    if not resolutions or any(side < stride or side % stride for side in resolutions):
        raise ValueError(f"Resolutions must be positive multiples of {stride}, got {list(resolutions)}.")


def _count(default: int | None, least: int) -> Any:
    """A number that the command refuses below `least`, by the name of its option."""
    return field(default=default, metadata={"min": least})


def _require_counts(configuration: object, **least: int) -> None:
    for name, smallest in least.items():
        value = getattr(configuration, name)
        if value is not None and value < smallest:
            raise ValueError(f"`{name}` must be at least {smallest}, got {value}.")


def _fastvithd() -> "FastViTHDConfig":
    """FastViTHD, with layer scales that let the blocks show in a comparison of outputs without blowing them up."""
    from ..configuration_fastvlm import FastViTHDConfig

    return FastViTHDConfig(layer_scale_init_value=0.01)


@dataclass(frozen=True)
class EncoderBenchmarkConfig:
    """
    What `run_encoder_benchmark` measures.

    Args:
        model: Folder or Hub id whose encoder is timed. [default: FastViTHD with random weights]
        resolutions: Sides of the square images, pixels.
        dtypes: Of float32, bfloat16, float16.
        batch_size: Images per call.
        ways: Ours again: of ours-openvino, ours-int8, ours-onnxruntime.
        repetitions: Measured calls per encoder and point.
        warmup: Unmeasured calls before them.
        threads: CPU threads. [default: PyTorch's choice]
        device: cpu, cuda, cuda:1, ...
        peers: Further encoders to time beside ours.
        encoder: Size of ours without `model`; the whole FastViTHD by default.

    Raises:
        ValueError: if a value is unknown or does not fit the encoder.
        MissingLibraryError: if the library of a way or peer is not installed.
    """

    model: str | None = None
    resolutions: tuple[int, ...] = (256, 512, 1024)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    batch_size: int = _count(1, least=1)
    ways: tuple[str, ...] = ()
    repetitions: int = _count(10, least=1)
    warmup: int = _count(2, least=0)
    threads: int | None = _count(None, least=1)
    device: str = "cpu"
    peers: tuple["EncoderSubject", ...] = field(default=(), metadata={"option": False})
    encoder: "FastViTHDConfig" = field(default_factory=_fastvithd, metadata={"option": False})

    def __post_init__(self) -> None:
        from .encoder_subjects import ENCODER_WAYS

        if self.model is None:
            require_resolutions(self.resolutions, self.encoder.stride)
        require_known("dtype", self.dtypes, DTYPES)
        if not self.dtypes:
            raise ValueError(f"Name at least one dtype of {', '.join(DTYPES)}.")
        require_known("way", self.ways, ENCODER_WAYS)
        _require_counts(self, batch_size=1, repetitions=1, warmup=0, threads=1)
        require_device(self.device)
        for subject in self.subjects:
            subject.require()

    @property
    def subjects(self) -> tuple["EncoderSubject", ...]:
        """What is timed beside ours."""
        from .encoder_subjects import ENCODER_WAYS

        return (*self.peers, *(ENCODER_WAYS[name] for name in self.ways))


@dataclass(frozen=True)
class TtftBenchmarkConfig:
    """
    What `run_ttft_benchmark` measures.

    Args:
        model: Folder or Hub id that is timed. [default: FastVLM with random weights]
        resolutions: Sides of the images, pixels; 2048 with tiles.
        decoder: Size of a decoder with random weights: 0.5B, 1.5B, 7B.
        dtype: Of float32, bfloat16, float16.
        batch_size: Prompts per call, one image each.
        ways: Ours again after optimize_for_inference: of ours-openvino, ours-int8.
        image: An image file. [default: a made-up photograph]
        text_tokens: Tokens of the prompt besides the image's.
        new_tokens: Tokens generated, the first included.
        repetitions: Measured runs of each model.
        warmup: Unmeasured runs before them.
        budget: Seconds per model and resolution after which no run begins.
        threads: CPU threads. [default: PyTorch's choice]
        device: cpu, cuda, cuda:1, ...
        peers: Further models to time beside ours.

    Raises:
        ValueError: if a name is unknown or a count is too small.
        MissingLibraryError: if the library of a way or peer is not installed.
    """

    model: str | None = None
    resolutions: tuple[int, ...] = (256, 512, 768, 1024, 1536, TILED_RESOLUTION)
    decoder: str = "0.5B"
    dtype: str = "bfloat16"
    batch_size: int = 1
    ways: tuple[str, ...] = ()
    image: Path | None = None
    text_tokens: int = 40
    new_tokens: int = 16
    repetitions: int = 5
    warmup: int = 1
    budget: float = 60.0
    threads: int | None = _count(None, least=1)
    device: str = "cpu"
    peers: tuple["VlmSubject", ...] = field(default=(), metadata={"option": False})

    def __post_init__(self) -> None:
        from .vlm_subjects import DECODERS, VLM_WAYS

        require_known("decoder", [self.decoder], DECODERS)
        require_known("dtype", [self.dtype], DTYPES)
        require_known("way", self.ways, VLM_WAYS)
        require_device(self.device)
        require_resolutions(self.resolutions, 64)
        if min(self.batch_size, self.text_tokens, self.new_tokens, self.repetitions) < 1 or self.warmup < 0:
            raise ValueError("Counts must be at least 1, `warmup` at least 0.")
        if self.budget < 0 or (self.threads is not None and self.threads < 1):
            raise ValueError("`budget` must be at least 0, `threads` at least 1.")
        if self.image is not None and not self.image.is_file():
            raise ValueError(f"There is no image {self.image}.")
        for subject in self.subjects:
            subject.require()

    @property
    def subjects(self) -> tuple["VlmSubject", ...]:
        """What is timed beside ours."""
        from .vlm_subjects import VLM_WAYS

        return (*self.peers, *(VLM_WAYS[name] for name in self.ways))


@dataclass(frozen=True)
class TrainingBenchmarkConfig:
    """
    What `run_training_benchmark` measures.

    Args:
        model: Folder or Hub id. [default: FastVLM-0.5B's sizes with random weights]
        methods: Of lora (the decoder's linear layers, rank 16), qlora (the same over 4-bit weights), full (encoder,
            projector and decoder), and lora-cached and qlora-cached (with features of images from the disk).
        batch_size: Examples per step, one image each.
        text_tokens: Tokens per example besides the image's, half of them learnt.
        dtype: Of the weights that are not quantized: float32 or bfloat16.
        steps: Measured optimizer steps.
        warmup: Unmeasured steps before them.
        gradient_checkpointing: Recompute activations instead of keeping them.
        threads: CPU threads. [default: PyTorch's choice]
        device: cpu, cuda, cuda:1, ...
        peers: Further ways to train, to time beside ours.

    Raises:
        ValueError: if a method is unknown, a count is not positive, or the device cannot be used.
    """

    model: str | None = None
    methods: tuple[str, ...] = ("lora", "qlora")
    batch_size: int = 1
    text_tokens: int = 128
    dtype: str = "float32"
    steps: int = 5
    warmup: int = 1
    gradient_checkpointing: bool = False
    threads: int | None = _count(None, least=1)
    device: str = "cpu"
    peers: tuple["TrainingSubject", ...] = field(default=(), metadata={"option": False})

    def __post_init__(self) -> None:
        if unknown := set(self.methods) - set(METHODS):
            raise ValueError(f"Unknown methods {sorted(unknown)}; known are {', '.join(METHODS)}.")
        if not self.methods:
            raise ValueError(f"Name at least one method of {', '.join(METHODS)}.")
        if min(self.batch_size, self.steps) < 1 or self.text_tokens < 2 or self.warmup < 0:
            raise ValueError("`batch_size` and `steps` are at least 1, `text_tokens` at least 2, `warmup` at least 0.")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"Weights train in 'float32' or 'bfloat16', not {self.dtype!r}.")
        _require_counts(self, threads=1)
        require_device(self.device)
        for subject in self.peers:
            subject.require()
