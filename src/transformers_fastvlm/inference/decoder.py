# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder on CPUs: faster linear layers, and the attention of `cpu_kernels`."""

from typing import Any

from torch import nn

from ..cpu_kernels import ATTENTION
from .linear_layers import Int8Linear, PackedLinear, packing_is_fast, refuse_to_save


def optimize_decoder(model: Any, int8: bool) -> None:
    """Replace, in place, what computes a CPU model's projector and decoder.

    Args:
        model: `FastVLMForConditionalGeneration` or `FastVLMModel`.
        int8: whether the decoder's linear layers, but the head, compute in 8-bit integers.

    Raises:
        ValueError: if `int8` comes after a call without it, which has packed the weights.
    """
    decoder, projector = model.base_model.language_model, model.base_model.multi_modal_projector
    if decoder.config._attn_implementation == "sdpa":
        decoder.set_attn_implementation(ATTENTION)
    if int8:
        if any(isinstance(module, PackedLinear) for module in decoder.modules()):
            raise ValueError("The decoder is optimized already, in floating point: load the model anew for int8.")
        _replace_linear_layers(decoder, Int8Linear)
        for part in {model, model.base_model, decoder}:
            part.save_pretrained = refuse_to_save
    for part in (projector, decoder):
        if packing_is_fast(next(part.parameters()).dtype):
            _replace_linear_layers(part, PackedLinear)


def _replace_linear_layers(part: nn.Module, kind: type[Int8Linear] | type[PackedLinear]) -> None:
    for parent in list(part.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:  # not those of quantization libraries
                setattr(parent, name, kind(child))
