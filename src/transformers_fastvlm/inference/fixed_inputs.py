# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Images and questions that checkpoints are compared on. Imports nothing of this project."""

from typing import Any

import numpy as np
import torch
from PIL import Image


def fixed_inputs(processor: Any) -> dict[str, torch.Tensor]:
    """Model inputs of a picture of 300 × 200 pixels, gradients with noise, and a question about it."""
    return _inputs(processor, [{"type": "image", "image": _picture(300, 200)}, _text("What is in this picture?")])


def several_fixed_inputs(processor: Any) -> list[dict[str, torch.Tensor]]:
    """The same, then a portrait with another question, and a question without a picture."""
    return [
        fixed_inputs(processor),
        _inputs(processor, [_text("Read the text."), {"type": "image", "image": _picture(180, 420)}]),
        _inputs(processor, [_text("How many are there?")]),
    ]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.RandomState(0).randint(0, 64, (height, width, 3))
    pixels = np.stack([rows * 0.9, columns * 0.6, (rows + columns) * 0.3], axis=-1) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _inputs(processor: Any, content: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return dict(
        processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    )


@torch.no_grad()
def last_logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scores of the next token, `(1, vocab)`, on the CPU."""
    placed = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    return model(**placed, logits_to_keep=1).logits[:, -1].cpu()
