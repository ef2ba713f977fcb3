# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder on CPUs: faster linear layers, and faster attention in transformers' interface."""

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from ..cpu_attention import cpu_attention, suits_cpu_attention
from ..reparameterizable_layers import keep_freed_memory
from .linear_layers import Int8Linear, PackedLinear, packing_is_fast, refuse_to_save

ATTENTION = "sdpa_or_cpu_blocks"  # the name in `model.config._attn_implementation`


def sdpa_or_cpu_blocks(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' "sdpa", and where no mask is needed and it is faster, the same by `cpu_attention`.

    That is prefill and decoding of one prompt, or of several equally long ones.
    """
    tokens = query.shape[2]
    if attention_mask is None and tokens in (1, key.shape[2]) and suits_cpu_attention(query):
        return cpu_attention(query, key, value, scaling or query.shape[-1] ** -0.5, is_causal=tokens > 1), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
    )


AttentionInterface.register(ATTENTION, sdpa_or_cpu_blocks)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def optimize_decoder(model: Any, int8: bool) -> None:
    """Replace, in place, what computes a CPU model's projector and decoder.

    Args:
        model: `FastVLMForConditionalGeneration` or `FastVLMModel`.
        int8: whether the decoder's linear layers, but the head, compute in 8-bit integers.

    Raises:
        ValueError: if `int8` comes after a call without it, which has packed the weights.
    """
    keep_freed_memory()
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
