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
from ..programs.options import option

if TYPE_CHECKING:
    from ..configuration_fastvlm import FastViTHDConfig
    from .encoder_subjects import EncoderSubject
    from .vlm_subjects import VlmSubject

OURS = "ours"
DTYPES = ("float32", "bfloat16", "float16")
METHODS = ("lora", "qlora", "full")
TILED_RESOLUTION = 2048  # a 2x2 grid of 1024 and the overview, as in the paper


def _model_option() -> Any:
    return option("Folder or Hub id of any FastVLM checkpoint.", None, otherwise="FastVLM-0.5B with random weights")


def _threads_option() -> Any:
    return option("CPU threads.", None, least=1, otherwise="PyTorch's choice")


def _device_option() -> Any:
    return option("cpu, cuda, cuda:1, ...", "cpu")


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
        model (`str`, *optional*): folder or Hub id whose encoder ours is, in place of random weights.
        resolutions (`tuple[int, ...]`): sides of the square images in pixels.
        dtypes (`tuple[str, ...]`): of `DTYPES`.
        batch_size (`int`): images per call.
        ways (`tuple[str, ...]`): ours again, of `ENCODER_WAYS`.
        repetitions, warmup (`int`): measured calls per encoder and point, and unmeasured ones before them.
        threads (`int`, *optional*): CPU threads; PyTorch's own choice without it.
        device (`str`): as `torch.device` takes it.
        peers (`tuple[EncoderSubject, ...]`): further encoders to time beside ours.
        encoder (`FastViTHDConfig`): size of ours without `model`; the whole FastViTHD by default.

    Raises:
        ValueError: if a value is unknown or does not fit the encoder.
        MissingLibraryError: if the library of a way or peer is not installed.
    """

    model: str | None = _model_option()
    resolutions: tuple[int, ...] = option("Sides of the square images, pixels.", (256, 512, 1024))
    dtypes: tuple[str, ...] = option(f"Of {', '.join(DTYPES)}.", ("float32", "bfloat16"))
    batch_size: int = option("Images per call.", 1, least=1)
    ways: tuple[str, ...] = option("Ours again: of ours-openvino, ours-int8, ours-onnxruntime.", ())
    repetitions: int = option("Measured calls per encoder and point.", 10, least=1)
    warmup: int = option("Unmeasured calls before them.", 2, least=0)
    threads: int | None = _threads_option()
    device: str = _device_option()
    peers: tuple["EncoderSubject", ...] = ()
    encoder: "FastViTHDConfig" = field(default_factory=_fastvithd)

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
        model: folder or Hub id in place of ours with random weights.
        resolutions: of ours and of peers that take any; 2048 is ours with tiles.
        decoder: of `DECODERS`, without `model` and for peers.
        dtype: of all weights.
        batch_size: prompts per call, one image each.
        ways: ours again, of `VLM_WAYS`.
        image: a file; by default a made-up photograph of 1152x1152 pixels.
        text_tokens: of the prompt, besides the image's.
        new_tokens: generated, the first included.
        repetitions, warmup: measured runs, and runs before them.
        budget: seconds of measured runs for each model and resolution, after which none begins.
        threads: CPU threads; `None` for PyTorch's choice.
        device: where to run.
        peers: further models to time beside ours.

    Raises:
        ValueError: if a name is unknown or a count is too small.
        MissingLibraryError: if the library of a way or peer is not installed.
    """

    model: str | None = _model_option()
    resolutions: tuple[int, ...] = option(
        f"Sides of the images, pixels; {TILED_RESOLUTION} with tiles.", (256, 512, 768, 1024, 1536, TILED_RESOLUTION)
    )
    decoder: str = option("Size of the decoder with random weights: 0.5B, 1.5B, 7B.", "0.5B")
    dtype: str = option(f"Of {', '.join(DTYPES)}.", "bfloat16")
    batch_size: int = option("Prompts per call, one image each.", 1)
    ways: tuple[str, ...] = option("Of ours-openvino, ours-int8: after optimize_for_inference.", ())
    image: Path | None = option("An image file.", None, otherwise="a made-up photograph")
    text_tokens: int = option("Tokens of the prompt besides the image's.", 40)
    new_tokens: int = option("Tokens generated.", 16)
    repetitions: int = option("Measured runs of each model.", 5)
    warmup: int = option("Unmeasured runs before them.", 1)
    budget: float = option("Seconds per model and resolution after which no run begins.", 60.0)
    threads: int | None = _threads_option()
    device: str = _device_option()
    peers: tuple["VlmSubject", ...] = ()

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
        model: folder or Hub id; FastVLM-0.5B's sizes with random weights by default.
        methods: of `"lora"` (the decoder's linear layers, rank 16), `"qlora"` (the same over 4-bit weights) and
            `"full"` (encoder, projector and decoder).
        batch_size: examples per step, with one image each.
        text_tokens: tokens of each example besides the image's, half of them learnt.
        dtype: of the weights that are not quantized.
        steps: measured optimizer steps.
        warmup: steps before them.
        gradient_checkpointing: recompute activations instead of keeping them.
        threads: CPU threads; `None` for PyTorch's choice.
        device: where to train.

    Raises:
        ValueError: if a method is unknown, a count is not positive, or the device cannot be used.
    """

    model: str | None = _model_option()
    methods: tuple[str, ...] = option(f"Of {', '.join(METHODS)}.", ("lora", "qlora"))
    batch_size: int = option("Examples per step, one image each.", 1)
    text_tokens: int = option("Tokens per example besides the image's.", 128)
    dtype: str = option("float32 or bfloat16.", "float32")
    steps: int = option("Measured steps.", 5)
    warmup: int = option("Unmeasured steps before them.", 1)
    gradient_checkpointing: bool = option("Recompute activations.", False)
    threads: int | None = _threads_option()
    device: str = _device_option()

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
