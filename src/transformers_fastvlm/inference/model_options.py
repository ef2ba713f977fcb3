# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint is loaded, as options of commands and scripts. Imports no torch, so that help comes at once."""

from dataclasses import dataclass

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelOptions:
    """
    How a checkpoint is loaded, to be asked.

    Args:
        pretrained: folder or Hub id of any FastVLM checkpoint.
        adapter: folder or Hub id of a PEFT adapter to put on it.
        quantization: a scheme of [`quantization_config`], such as `"nf4"`.
        dtype: of the weights, such as `"bfloat16"`; `"auto"` is the checkpoint's.
        resolution: side of the images in pixels; by default the checkpoint's.
        static_cache: keep keys and values in a cache of fixed size.
        compiled: run the encoder through `torch.compile`.

    Raises:
        ValueError: if the dtype or the scheme is unknown, or the resolution no number of pixels.
    """

    pretrained: str
    adapter: str | None = None
    quantization: str | None = None
    dtype: str = "auto"
    resolution: int | None = None
    static_cache: bool = False
    compiled: bool = False

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"Unknown dtype {self.dtype!r}; known are {', '.join(DTYPES)}.")
        if self.quantization is not None:
            from ..quantization import require_known_scheme

            require_known_scheme(self.quantization)
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"`resolution` is a number of pixels, at least 1, not {self.resolution}.")
