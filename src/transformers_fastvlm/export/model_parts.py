# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The three parts of a model that other runtimes run, with the inputs and outputs that transformers.js gives them.

Between the parts, values are float32 whatever the weights are; keys and values have the decoder's dtype.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ..outputs_fastvlm import CACHE_NAME
from .errors import ExportError

# Sizes that a trace starts from: none is one, which PyTorch takes for a case of its own, and no two are equal.
_BATCH, _POSITIONS, _PAST = 2, 3, 5


class VisionEncoder(nn.Module):
    """Encoder and projector: `(crops, 3, R, R)` pixels to `(crops, tokens, hidden)` visual tokens."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model.get_image_features(pixel_values, return_dict=True).pooler_output.float()


class EmbedTokens(nn.Module):
    """`(batch, positions)` ids to `(batch, positions, hidden)` embeddings."""

    def __init__(self, model: Any):
        super().__init__()
        self.embedding = model.get_input_embeddings()

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.embedding(input_ids).float()


class Decoder(nn.Module):
    """
    Decoder and head, for a prompt and for each step behind it.

    What `last_positions` makes of the last hidden states and `num_logits_to_keep` gets scores. `past_key_values` holds
    keys and values of each layer, `(batch, heads, past positions, head_dim)`. Returned are the scores `(batch, kept
    positions, vocab)`, then each layer's keys and values with the new positions.
    """

    def __init__(self, model: Any, last_positions: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]):
        super().__init__()
        self.model, self.last_positions = model, last_positions

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        num_logits_to_keep: torch.Tensor,
        past_key_values: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache()
        cache.layers += [_filled_layer(keys, values) for keys, values in past_key_values]
        outputs = self.model.model(
            inputs_embeds=inputs_embeds.to(self.model.dtype),
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=True,
            return_dict=True,
            **{CACHE_NAME: cache},
        )
        outputs.last_hidden_state = self.last_positions(outputs.last_hidden_state, num_logits_to_keep)
        logits = self.model.decoder_head(outputs).logits.float()
        layers = outputs[CACHE_NAME].layers
        return logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values))


def _filled_layer(keys: torch.Tensor, values: torch.Tensor) -> DynamicLayer:
    """Without joining them to an empty layer's, which would be a step of the graph."""
    layer = DynamicLayer()
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer


def example_text() -> torch.Tensor:
    """Ids that a trace starts from, `(batch, positions)`."""
    return torch.zeros(_BATCH, _POSITIONS, dtype=torch.int64)


def decoder_example(model: Any, shapes: list[tuple[int, int]], num_logits_to_keep: torch.Tensor) -> dict[str, Any]:
    """
    Arguments that a trace of [`Decoder`] starts from, in the order of its inputs.

    Args:
        shapes: of the caches, as `cache_shapes` has them.
        num_logits_to_keep: as the decoder's `last_positions` takes it.
    """
    past = [torch.zeros(_BATCH, heads, _PAST, size, dtype=model.dtype) for heads, size in shapes]
    return {
        "inputs_embeds": torch.zeros(_BATCH, _POSITIONS, model.get_input_embeddings().embedding_dim),
        "attention_mask": torch.ones(_BATCH, _PAST + _POSITIONS, dtype=torch.int64),
        "position_ids": torch.arange(_PAST, _PAST + _POSITIONS).repeat(_BATCH, 1),
        "num_logits_to_keep": num_logits_to_keep,
        "past_key_values": [(keys, keys.clone()) for keys in past],
    }


@torch.no_grad()
def cache_shapes(model: Any) -> list[tuple[int, int]]:
    """
    Heads and their size, of each layer's keys and values.

    Raises:
        ExportError: if the decoder remembers in another way: the runtimes only know keys and values of all positions.
    """
    embeds = torch.zeros(1, 2, model.get_input_embeddings().embedding_dim, dtype=model.dtype)
    cache = model.model(inputs_embeds=embeds, use_cache=True).get(CACHE_NAME)
    layers = [layer for layer in getattr(cache, "layers", []) if _has_keys_and_values(layer)]
    if len(layers) != model.config.text_config.num_hidden_layers:
        raise ExportError(
            f"A decoder of type {model.config.text_config.model_type} does not remember by keys and values in each "
            "layer alone, which is what this format runs."
        )
    return [(layer.keys.shape[1], layer.keys.shape[3]) for layer in layers]


def _has_keys_and_values(layer: Any) -> bool:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    return keys is not None and values is not None and keys.ndim == 4 and keys.shape == values.shape
