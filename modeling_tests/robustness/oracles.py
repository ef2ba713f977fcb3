# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Answers by other ways than the package's own: Pillow by hand, the tokenizer alone, one after the other."""

import copy
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

BICUBIC = PIL.Image.Resampling.BICUBIC


def side_of(options: dict[str, Any], default: int) -> int:
    size = options.get("size", default)
    return size if isinstance(size, int) else next(iter(size.values()))


def padded_square(image: PIL.Image.Image, color: tuple[int, ...]) -> PIL.Image.Image:
    long = max(image.size)
    square = PIL.Image.new("RGB", (long, long), color)
    square.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
    return square


def crops_by_hand(levels: np.ndarray, options: dict[str, Any], default_side: int) -> np.ndarray:
    """The crops, (crops, 3, R, R) in 0..255, of an image given by its (height, width, 3) levels."""
    image = PIL.Image.fromarray(np.ascontiguousarray(levels))
    side = side_of(options, default_side)
    color = options.get("background_color", 0)
    color = (color,) * 3 if isinstance(color, int) else tuple(color)
    if not options.get("do_tile"):
        crops = [padded_square(image, color).resize((side, side), BICUBIC)]
    else:
        scale = 2 * side / max(image.size)
        fitted = [min(2 * side, -int(-length * scale // 1)) for length in image.size]
        fitted[image.size.index(max(image.size))] = 2 * side
        grid = padded_square(image.resize(tuple(fitted), BICUBIC), color)
        corners = [(left, top) for top in (0, side) for left in (0, side)]
        crops = [image.resize((side, side), BICUBIC)]
        crops += [grid.crop((left, top, left + side, top + side)) for left, top in corners]
    return np.stack([np.moveaxis(np.asarray(crop), -1, 0) for crop in crops]).astype(int)


def levels_of_file(data: bytes) -> np.ndarray | None:
    """RGB levels of an image file as Pillow alone reads it; `None` if it cannot."""
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception:
        return None
    try:
        turned = PIL.ImageOps.exif_transpose(image)
    except Exception:
        turned = image
    return np.asarray(turned.convert("RGB"))


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same in type, shape and every number; NaN equals NaN."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        alike = first.dtype == second.dtype and first.shape == second.shape
        return alike and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if isinstance(first, PIL.Image.Image) and isinstance(second, PIL.Image.Image):
        return (first.mode, first.size, first.tobytes()) == (second.mode, second.size, second.tobytes())
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and repr(first) == repr(second)


def copied(value: Any) -> Any:
    """A deep copy, also of tensors with a history."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, PIL.Image.Image):
        return value.copy()
    if isinstance(value, Mapping):
        return {name: copied(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(part) for part in value)
    return copy.deepcopy(value)


@torch.no_grad()
def greedy_by_hand(model, input_ids: torch.Tensor, pixel_values: torch.Tensor | None, new_tokens: int) -> list[int]:
    """What one prompt, (1, positions), is continued with: the whole of it through the model for every token."""
    ids, answer = input_ids, []
    features = None if pixel_values is None else model.get_image_features(pixel_values).pooler_output
    for _ in range(new_tokens):
        embeddings = model.get_input_embeddings()(ids).clone()
        if features is not None:
            where = (input_ids[0] == model.config.image_token_id).nonzero().flatten()
            embeddings[0, where] = features.flatten(0, 1)
        hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -1]
        answer.append(int(model.lm_head(hidden).argmax()))
        ids = torch.cat([ids, torch.tensor([[answer[-1]]])], dim=1)
    return answer
