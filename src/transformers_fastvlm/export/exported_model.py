# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""An exported model behind `generate`: another runtime computes, everything else is the model's own."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn
from transformers import DynamicCache, GenerationConfig
from transformers.utils.generic import can_return_tuple

from ..configuration_fastvlm import FastVLMConfig
from ..modeling_fastvlm import FastVLMForConditionalGeneration, FastVLMModel
from ..outputs_fastvlm import (
    CACHE_NAME,
    FastVLMCausalLMOutputWithPast,
    FastVLMImageFeatures,
    cache_argument,
    one_cache,
)


class Runtime(Protocol):
    """The three parts of a model, each called with float32 or int64 tensors on the CPU."""

    def image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`(crops, 3, R, R)` pixels to `(crops, tokens, hidden)` visual tokens."""

    def embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        """`(batch, positions)` ids to `(batch, positions, hidden)`."""

    def decode(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_to_keep: int,
        cache: Any,
    ) -> torch.Tensor:
        """Scores `(batch, kept positions, vocab)` of new positions, whose keys and values go into the cache."""

    def new_cache(self) -> Any:
        """A `Cache` that `decode` fills."""


class _Embeddings(nn.Module):
    def __init__(self, runtime: Runtime, width: int):
        super().__init__()
        self.runtime, self.embedding_dim = runtime, width

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.runtime.embeddings(input_ids if input_ids.ndim == 2 else input_ids.reshape(1, -1)).reshape(
            *input_ids.shape, self.embedding_dim
        )


class _ExportedParts(FastVLMModel):
    """What of `FastVLMModel` prepares a prompt; its own parts have no weights."""

    def __init__(self, config: FastVLMConfig, runtime: Runtime):
        super().__init__(config)
        self.runtime = runtime
        self.language_model.set_input_embeddings(_Embeddings(runtime, config.text_config.hidden_size))

    @can_return_tuple
    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> FastVLMImageFeatures:
        return FastVLMImageFeatures(pooler_output=self.runtime.image_features(pixel_values.float()))


class ExportedFastVLMForConditionalGeneration(FastVLMForConditionalGeneration):
    """
    An exported model, in Python: `generate` and all that is built on it, with greedy decoding, sampling and beams.

    Args:
        config: the model's own.
        generation_config: its defaults for `generate`.
        runtime: what computes.
    """

    def __init__(self, config: FastVLMConfig, generation_config: GenerationConfig, runtime: Runtime):
        with torch.device("meta"):
            super().__init__(config)
            self.model = _ExportedParts(config, runtime)
        self.runtime = runtime
        self.generation_config = generation_config
        self.eval()

    @property
    def device(self) -> torch.device:
        """That of inputs and outputs."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """That of inputs and outputs; inside, the runtime has its own."""
        return torch.float32

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, *args, **kwargs):
        if generation_config.use_cache and model_kwargs.get(CACHE_NAME) is None:
            model_kwargs[CACHE_NAME] = self.runtime.new_cache()
        return super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)

    @torch.no_grad()
    @can_return_tuple
    def forward(  # type: ignore[override]
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Mapping[str, Any]] | None = None,
        cache: Any = None,
        logits_to_keep: int = 0,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
    ) -> FastVLMCausalLMOutputWithPast:
        """As of [`FastVLMForConditionalGeneration`], without gradients, losses and hidden states."""
        cache = one_cache(past_key_values, cache)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either `input_ids` or `inputs_embeds`.")
        self.model._check_prompt(input_ids, inputs_embeds, attention_mask, cache)
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        encoded = (mm_encoder_outputs or {}).get("image")
        if pixel_values is not None:
            encoded = self.model.get_image_features(pixel_values, return_dict=True)
        features = None
        if encoded is not None:
            features = encoded["pooler_output"]
            prompt_length = encoded.get("prompt_length")
            inputs_embeds = self.model.insert_image_features(input_ids, inputs_embeds, features, prompt_length)
        cache = self.runtime.new_cache() if cache is None else cache
        batch, positions = inputs_embeds.shape[:2]
        past = int(cache.get_seq_length())
        if attention_mask is None:
            attention_mask = torch.ones(batch, past + positions, dtype=torch.int64)
        places = torch.arange(past, past + positions) if position_ids is None else position_ids
        logits = self.runtime.decode(
            inputs_embeds, attention_mask, places.expand(batch, positions), logits_to_keep, cache
        )
        return FastVLMCausalLMOutputWithPast(
            logits=logits, image_hidden_states=features, **(cache_argument(cache) if use_cache is not False else {})
        )


def tensors_in(cache: DynamicCache) -> list[torch.Tensor]:
    """Keys and values of each layer in turn, `(batch, heads, positions, head_dim)`."""
    layers: list[Any] = cache.layers
    return [tensor for layer in layers for tensor in (layer.keys, layer.values)]


def fill(cache: DynamicCache, tensors: list[torch.Tensor]) -> None:
    """Replace all that `tensors_in` a cache."""
    layers: list[Any] = cache.layers
    for index, (keys, values) in enumerate(zip(tensors[::2], tensors[1::2])):
        if len(layers) <= index:
            cache.update(keys, values, index)
        else:
            layers[index].keys, layers[index].values = keys, values
