# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint is loaded, as options of commands and scripts. Imports no torch, so that help comes at once."""

from dataclasses import dataclass, field
from pathlib import Path

from ..programs.mistakes import require_device

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelOptions:
    """
    How a checkpoint is loaded, to be asked.

    Args:
        pretrained: Folder or Hub id of any FastVLM checkpoint.
        adapter: Folder or Hub id of a PEFT adapter to put on it.
        quantization: Of nf4, fp4, bnb-int8, int8, int8-dynamic: the decoder's weights, by `quantization_config`.
        dtype: float32, bfloat16, float16, or auto, the checkpoint's.
        resolution: Side of the images, pixels. [default: the checkpoint's]
        static_cache: Keys and values in a cache of fixed size.
        compiled: The encoder through `torch.compile`.

    Raises:
        ValueError: if the dtype or the scheme is unknown, or the resolution no number of pixels.
    """

    pretrained: str = field(metadata={"option": "--model"})
    adapter: str | None = None
    quantization: str | None = None
    dtype: str = "auto"
    resolution: int | None = None
    static_cache: bool = False
    compiled: bool = field(default=False, metadata={"option": "--compile"})

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"Unknown dtype {self.dtype!r}; known are {', '.join(DTYPES)}.")
        if self.quantization is not None:
            from ..quantization import require_known_scheme

            require_known_scheme(self.quantization)
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"`resolution` is a number of pixels, at least 1, not {self.resolution}.")


@dataclass(frozen=True)
class RunOptions:
    """
    Where a loaded checkpoint answers, and how fast.

    Args:
        device: cpu, cuda, cuda:1, ... [default: the GPU, if there is one]
        optimize: Answer faster, after a conversion or compilation: `optimize_for_inference`.

    Raises:
        ValueError: if there is no such device.
    """

    device: str | None = None
    optimize: bool = False

    def __post_init__(self):
        if self.device is not None:
            require_device(self.device)


def checkpoint_or_bundled(pretrained: str | None) -> str:
    """
    The checkpoint that was named, or the one that a clone of the repository has.

    Raises:
        ValueError: if none was named, and the package is not in a clone; if it is a path, and there is no such folder.
    """
    if not pretrained:
        return bundled_checkpoint()
    if pretrained.startswith(("/", ".", "~")) and not Path(pretrained).is_dir():
        raise ValueError(f"--model: there is no folder {pretrained}.")
    return pretrained


def bundled_checkpoint() -> str:
    """
    The checkpoint that a clone of the repository has.

    Raises:
        ValueError: if the package is not in a clone.
    """
    folder = Path(__file__).parents[3] / "checkpoints" / "tiny-reader"
    if not (folder / "config.json").is_file():
        raise ValueError(
            "Which model? Name a folder or a Hub id, such as --model apple/FastVLM-0.5B; only in a clone of the "
            "repository is there one that is taken without."
        )
    return str(folder)
