# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The three parts of a model that other runtimes run, with the inputs and outputs that transformers.js gives them.

Between the parts, values are float32 whatever the weights are; keys and values have the decoder's dtype.
"""

from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from ..outputs_fastvlm import CACHE_NAME
from .errors import ExportError


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

    `past_key_values` holds keys and values of each layer, `(batch, heads, past positions, head_dim)`. Returned are the
    scores `(batch, kept positions, vocab)`, then each layer's keys and values with the new positions.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        num_logits_to_keep: torch.Tensor,
        past_key_values: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache()
        for index, (key, value) in enumerate(past_key_values):
            cache.update(key, value, index)
        outputs = self.model.model(
            inputs_embeds=inputs_embeds.to(self.model.dtype),
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=True,
            return_dict=True,
            **{CACHE_NAME: cache},
        )
        outputs.last_hidden_state = _last_positions(outputs.last_hidden_state, num_logits_to_keep)
        logits = self.model.decoder_head(outputs).logits.float()
        layers = outputs[CACHE_NAME].layers
        return logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values))


def _last_positions(hidden: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """The last so many of `(batch, positions, hidden)`, all of them for 0: a slice that PyTorch has no graph for."""
    axis, end = torch.tensor([1]), torch.tensor([torch.iinfo(torch.int64).max])
    # The graph finds out how many come out; here, the shape only has to have as many dimensions.
    return torch.onnx.ops.symbolic(
        "Slice", (hidden, -count.reshape(1), end, axis), dtype=hidden.dtype, shape=hidden.shape, version=13
    )


@torch.no_grad()
def cache_shapes(model: Any) -> list[tuple[int, int]]:
    """
    Heads and their size, of each layer's keys and values.

    Raises:
        ExportError: if the decoder remembers in another way: the runtimes only know keys and values of all positions.
    """
    width, cache = model.get_input_embeddings().embedding_dim, DynamicCache()
    embeds = torch.zeros(1, 2, width, dtype=model.dtype)
    outputs = model.model(inputs_embeds=embeds, use_cache=True, **{CACHE_NAME: cache})
    layers = getattr(outputs[CACHE_NAME], "layers", [])
    shapes = [(layer.keys.shape[1], layer.keys.shape[3]) for layer in layers if _keeps_all_positions(layer)]
    if outputs[CACHE_NAME] is not cache or len(shapes) != model.config.text_config.num_hidden_layers:
        raise ExportError(
            f"A decoder of type {model.config.text_config.model_type} does not remember by keys and values in each "
            "layer alone, which is what this format runs."
        )
    return shapes


def _keeps_all_positions(layer: Any) -> bool:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    return keys is not None and values is not None and keys.ndim == 4 and keys.shape == values.shape
