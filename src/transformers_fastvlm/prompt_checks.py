# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Refusals of model inputs that would be answered wrongly, or that fail deep inside torch, in the user's terms."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig

_INTEGERS = (torch.int64, torch.int32)
_ORIGINAL_IMAGE_INDEX = -200  # where the original code splices features in


def context_length(text_config: PretrainedConfig) -> int | None:
    """Positions that a decoder can tell apart, `None` if there is no end to them."""
    context = getattr(text_config, "max_position_embeddings", None)
    if context is None:
        return None
    rope = getattr(text_config, "rope_parameters", None) or {}
    factor = rope.get("factor") if isinstance(rope, dict) else None
    return int(context * max(1, factor or 1))


def raise_on_long_prompt(text_config: PretrainedConfig, positions: int) -> None:
    """
    Raises:
        ValueError: if a prompt of so many positions does not fit in the decoder's context.
    """
    context = context_length(text_config)
    if context is not None and positions > context:
        raise ValueError(
            f"The prompt has {positions} tokens, visual ones included, but the decoder's context is {context}. "
            "Shorten the text, or lower the images' resolution or number of tiles."
        )


def raise_on_mismatch(placeholders: torch.Tensor, features: torch.Tensor | None) -> None:
    """
    Args:
        placeholders: `(batch, positions)` booleans.
        features: the visual tokens, `(crops, tokens, hidden)` or `(tokens, hidden)`.

    Raises:
        ValueError: if there are not as many visual tokens as placeholders, or a row's placeholders are no whole crops.
    """
    count = int(placeholders.sum())
    tokens = features.shape[:-1].numel() if features is not None else 0
    if count != tokens:
        given = "no image was given"
        if features is not None:
            given = f"the images give {tokens} visual tokens"
            given += f" ({features.shape[0]} crops of {features.shape[1]})" if features.ndim == 3 else ""
        raise ValueError(f"The prompt has {count} placeholder tokens, but {given}.")
    if features is not None and features.ndim == 3 and tokens:
        by_row = placeholders.sum(1)
        if (by_row % features.shape[1]).any():
            raise ValueError(
                f"The prompts have {by_row.tolist()} placeholder tokens by row, but a crop has {features.shape[1]}: "
                "one row's image would end in another's prompt."
            )


def raise_on_bad_ids(input_ids: Any, vocab_size: int) -> None:
    """
    Raises:
        ValueError: if these are no token ids of shape `(batch, positions)` within the decoder's vocabulary.
    """
    if not isinstance(input_ids, torch.Tensor):
        raise ValueError(
            f"`input_ids` must be a tensor, not a {type(input_ids).__name__}. The processor gives one with "
            "`return_tensors='pt'`."
        )
    if input_ids.dtype not in _INTEGERS:
        raise ValueError(f"`input_ids` must be integers, not {input_ids.dtype}.")
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        raise ValueError(f"`input_ids` must be (batch, positions), of at least one, not {tuple(input_ids.shape)}.")
    lowest, highest = (int(end) for end in input_ids.aminmax())
    if lowest == _ORIGINAL_IMAGE_INDEX:
        raise ValueError(
            f"`input_ids` has the index {lowest}, the original code's mark of an image. Here, an image has "
            "`config.image_token_id` once for each of its visual tokens; the processor writes them."
        )
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"`input_ids` has the id {wrong}, but the decoder's vocabulary is 0..{vocab_size - 1}.")


def raise_on_bad_embeddings(inputs_embeds: Any, width: int) -> None:
    """
    Raises:
        ValueError: if these are no embeddings of shape `(batch, positions, width)`.
    """
    is_tensor = isinstance(inputs_embeds, torch.Tensor)
    if not is_tensor or inputs_embeds.ndim != 3 or inputs_embeds.shape[-1] != width or 0 in inputs_embeds.shape:
        given = tuple(inputs_embeds.shape) if is_tensor else f"a {type(inputs_embeds).__name__}"
        raise ValueError(f"`inputs_embeds` must be (batch, positions, {width}), of at least one, not {given}.")


def raise_on_bad_mask(attention_mask: Any, shape: Sequence[int], starts: bool) -> None:
    """
    Args:
        attention_mask: of any kind that decoders take; only those of shape `(batch, positions)` are looked at.
        shape: of the prompt, `(batch, positions)`.
        starts: whether it is a prompt's beginning; later, a mask also covers what is in the cache.

    Raises:
        ValueError: if it is not of the prompt's shape, or has other values than 0 and 1.
    """
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
        return
    (batch, positions), length = shape, attention_mask.shape[1]
    if attention_mask.shape[0] != batch or length < positions or (starts and length != positions):
        raise ValueError(
            f"`attention_mask` is {tuple(attention_mask.shape)}, but the prompt is ({batch}, {positions}): both must "
            "have the same shape."
        )
    if attention_mask.dtype != torch.bool and not ((attention_mask == 0) | (attention_mask == 1)).all():
        raise ValueError("`attention_mask` must be 1 for each token to look at and 0 for padding.")


def raise_on_masked_placeholders(placeholders: torch.Tensor, attention_mask: Any) -> None:
    """
    Raises:
        ValueError: if a mask of the placeholders' shape, `(batch, positions)`, hides some of them.
    """
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.shape != placeholders.shape:
        return
    hidden = (placeholders & (attention_mask.to(placeholders.device) == 0)).any(1)
    if hidden.any():
        rows = hidden.nonzero().flatten().tolist()
        raise ValueError(f"`attention_mask` hides placeholder tokens, and with them images, in rows {rows}.")


def raise_on_right_padding(attention_mask: Any) -> None:
    """
    Raises:
        ValueError: if a row of a `(batch, positions)` mask ends in padding, after which a decoder would go on.
    """
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2 or attention_mask.shape[1] == 0:
        return
    padded = (attention_mask[:, -1] == 0).nonzero().flatten().tolist()
    if padded:
        raise ValueError(
            f"The prompts in rows {padded} end in padding, so that their answers would be continuations of padding. "
            "Pad on the left: `processor.tokenizer.padding_side = 'left'`."
        )


def raise_on_bad_pixels(pixel_values: Any, channels: int, stride: int) -> None:
    """
    Raises:
        ValueError: if these are no images for an encoder of so many channels and this stride, `(images, channels,
            height, width)` of floating-point numbers, both sides divisible by the stride.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # these would take sizes that are compared for fixed
        return
    if not isinstance(pixel_values, torch.Tensor):
        raise ValueError(f"`pixel_values` must be a tensor, not a {type(pixel_values).__name__}.")
    if pixel_values.ndim != 4 or pixel_values.shape[1] != channels or 0 in pixel_values.shape:
        raise ValueError(
            f"`pixel_values` must be (images, {channels}, height, width), of at least one image, "
            f"got {tuple(pixel_values.shape)}."
        )
    if not pixel_values.is_floating_point():
        raise ValueError(f"`pixel_values` must be floating-point numbers in 0..1, not {pixel_values.dtype}.")
    height, width = pixel_values.shape[2:]
    if height % stride or width % stride:
        raise ValueError(f"An image of {height}x{width} pixels does not fit: sides must be divisible by {stride}.")
