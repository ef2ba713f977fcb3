# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What FastVLM's models return, and the name that the installed transformers gives the cache in it."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
)

# transformers 5.24 renamed a decoder's cache, as an argument and in outputs.
CACHE_NAME = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"


def one_cache(past_key_values: Any, cache: Any) -> Any:
    """The cache, whichever of its two names it was given under.

    Raises:
        ValueError: if both are given.
    """
    if past_key_values is not None and cache is not None:
        raise ValueError("`cache` and `past_key_values` are two names of the same argument: give one of them.")
    return cache if past_key_values is None else past_key_values


def cache_argument(cache: Any) -> dict[str, Any]:
    """A cache as the decoder takes it. The one of continuous batching, no `Cache`, had its own name before 5.24."""
    return {} if cache is None else {CACHE_NAME if isinstance(cache, Cache) else "cache": cache}


def is_start(cache: Any) -> bool:
    """Whether this is a prompt's beginning. Later, a placeholder's id can only be one that the decoder made up."""
    return cache is None or (isinstance(cache, Cache) and int(cache.get_seq_length()) == 0)


@dataclass
class FastVLMModelOutputWithPast(BaseModelOutputWithPastAndCrossAttentions):
    """
    Output of [`FastVLMModel`]: as of any decoder, and

    Args:
        router_logits (`tuple[torch.Tensor]`, *optional*, with `output_router_logits=True`): of a mixture of experts.
        image_hidden_states (`torch.Tensor` of shape `(crops, tokens, hidden)`, *optional*): the visual tokens.
    """

    router_logits: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None


@dataclass
class FastVLMCausalLMOutputWithPast(CausalLMOutputWithPast):
    """
    Output of [`FastVLMForConditionalGeneration`]: as of any decoder (`loss`, the mean next-token cross-entropy, with
    `labels`; `logits` of shape `(batch, positions, vocab)`; the cache; `hidden_states` and `attentions` of the
    decoder, one per layer), and

    Args:
        aux_loss (`torch.Tensor`, *optional*, with `output_router_logits=True`): balance of a mixture of experts;
            weighted by the decoder's `router_aux_loss_coef`, it is part of `loss`.
        image_hidden_states (`torch.Tensor` of shape `(crops, tokens, hidden)`, *optional*): the visual tokens.
    """

    aux_loss: torch.Tensor | None = None
    image_hidden_states: torch.Tensor | None = None


@dataclass
class FastVLMImageFeatures(BaseModelOutputWithPooling):
    """
    Output of `get_image_features`.

    Args:
        last_hidden_state (`torch.Tensor` of shape `(crops, channels, R / stride, R / stride)`): the feature map.
        pooler_output (`torch.Tensor` of shape `(crops, tokens, hidden)`): the visual tokens.
        prompt_length (`int`, *optional*): set by `generate`; a placeholder token from this position on is one that the
            decoder made up, and stands for no image.
    """

    prompt_length: int | None = None


__all__ = ["FastVLMCausalLMOutputWithPast", "FastVLMImageFeatures", "FastVLMModelOutputWithPast"]
