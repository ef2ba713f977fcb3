# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""4-bit and 8-bit weights: configurations that keep the parts which do not bear it out of it."""

from typing import Literal, get_args

import torch
from transformers import BitsAndBytesConfig, TorchAoConfig

from ..extras import require
from ..loading import SPARED_PARTS, modules_to_spare
from ..parts import Part

Scheme = Literal["nf4", "fp4", "bnb-int8", "int8", "int8-dynamic"]


def quantization_config(
    scheme: Scheme = "nf4",
    compute_dtype: torch.dtype = torch.bfloat16,
    keep: tuple[Part, ...] = SPARED_PARTS,
) -> BitsAndBytesConfig | TorchAoConfig:
    """
    The `quantization_config` for `from_pretrained`, by default of the decoder's linear layers alone.

    Args:
        scheme: `"nf4"` (QLoRA, arXiv 2305.14314, with double quantization) and `"fp4"`, 4 bits, and `"bnb-int8"`
            (LLM.int8(), arXiv 2208.07339), 8 bits, by bitsandbytes; `"int8"`, 8-bit weights, and `"int8-dynamic"`,
            activations in 8 bits too, by torchao. Adapters train on bitsandbytes' schemes.
        compute_dtype: of the matrix products of the 4-bit schemes.
        keep: parts that stay in full precision, of `"encoder"`, `"projector"` and `"head"`. The encoder's convolutions
            always do.

    Raises:
        ValueError: if the scheme or a part is unknown.
        MissingLibraryError: if the library behind it is not installed; the message names the extra.
    """
    require_known_scheme(scheme)
    if unknown := set(keep) - set(SPARED_PARTS):
        raise ValueError(f"Unknown parts {sorted(unknown)}; known are {', '.join(SPARED_PARTS)}.")
    skipped = modules_to_spare(keep)
    if scheme in ("int8", "int8-dynamic"):
        return _torchao_config(scheme, skipped)
    return _bitsandbytes_config(scheme, compute_dtype, skipped)


def require_known_scheme(scheme: str) -> None:
    """
    Raises:
        ValueError: if there is no such scheme.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"Unknown scheme {scheme!r}; known are {', '.join(get_args(Scheme))}.")


def _torchao_config(scheme: Scheme, skipped: list[str]) -> TorchAoConfig:
    require(["torchao"], "quantization", f"`{scheme}`")
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig

    kind = Int8WeightOnlyConfig if scheme == "int8" else Int8DynamicActivationInt8WeightConfig
    return TorchAoConfig(kind(), modules_to_not_convert=skipped)


def _bitsandbytes_config(scheme: Scheme, compute_dtype: torch.dtype, skipped: list[str]) -> BitsAndBytesConfig:
    require(["bitsandbytes"], "quantization", f"`{scheme}`")  # transformers would only say so while loading
    if scheme == "bnb-int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=scheme,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=skipped,
    )


__all__ = ["Scheme", "quantization_config", "require_known_scheme"]
