# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint is loaded, as options of commands and scripts. Imports no torch, so that help comes at once."""

from dataclasses import dataclass, field

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
