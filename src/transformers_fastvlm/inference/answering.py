# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What is asked of a loaded model: answers, log-likelihoods, the most similar image."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ..checkpoint_formats import IMAGE_TOKEN
from .model_loading import base_of


def to_messages(text: str, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """A user's turn: images where the text has `<image>`, if it has one for each, else all before the text."""
    parts = text.split(IMAGE_TOKEN)
    if len(parts) != len(images) + 1:
        parts = [""] * len(images) + [text.replace(IMAGE_TOKEN, "image")]
    content: list[dict[str, Any]] = []
    for index, part in enumerate(parts):
        part = part.removeprefix("\n") if index else part  # the template ends an image's line itself
        content += [{"type": "text", "text": part}] if part.strip() else []
        content += [{"type": "image", "image": images[index]}] if index < len(images) else []
    return [{"role": "user", "content": content}]


def _inputs(processor: Any, conversations: list, padding_side: str, **options: Any) -> Any:
    """The inputs of several conversations, as one batch."""
    return processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": padding_side},
        **options,
    )


@torch.no_grad()
def generate_answers(
    model: Any, processor: Any, conversations: list[list[dict[str, Any]]], **options: Any
) -> list[str]:
    """Answers to conversations with PIL images, as one batch; `options` are those of `generate`."""
    inputs = _inputs(processor, conversations, "left", add_generation_prompt=True).to(model.device)
    output = model.generate(**inputs, **options)
    answers = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [answer.strip() for answer in answers]


@torch.no_grad()
def score_continuations(
    model: Any, processor: Any, conversations: list[list[dict[str, Any]]], continuations: list[str]
) -> list[tuple[float, bool]]:
    """
    How likely each text is as the answer to its conversation, `<|im_end|>` included.

    Returns:
        per conversation, the mean negative log-likelihood of the text's tokens, in nats, and whether greedy decoding
        would give it. The mean is what lmms-eval's models return, whose multiple-choice tasks take the least.
    """
    whole = [
        [*conversation, {"role": "assistant", "content": [{"type": "text", "text": text}]}]
        for conversation, text in zip(conversations, continuations)
    ]
    inputs = _inputs(processor, whole, "right", return_assistant_tokens_mask=True).to(model.device)
    is_answer = inputs.pop("assistant_masks").bool()[:, 1:]  # (batch, positions - 1)
    first = int(is_answer.any(0).nonzero()[0])
    logits = model(**inputs, logits_to_keep=inputs["input_ids"].shape[1] - first).logits[:, :-1].float()
    targets, is_answer = inputs["input_ids"][:, first + 1 :], is_answer[:, first:]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    means = (losses * is_answer).sum(1) / is_answer.sum(1)
    greedy = ((logits.argmax(-1) == targets) | ~is_answer).all(1)
    return list(zip(means.tolist(), greedy.tolist()))


@torch.no_grad()
def image_embeddings(model: Any, processor: Any, images: Sequence[Image.Image]) -> torch.Tensor:
    """
    One vector of length 1 per image, from the encoder alone, `(images, channels)`, float32.

    It is the CLIP embedding (`pooler_output`) where the checkpoint has that head, else the mean of the feature map
    over positions, which nothing has trained to tell images apart.
    """
    pixels = processor.image_processor(list(images), do_tile=False, return_tensors="pt").pixel_values
    tower = base_of(model).base_model.vision_tower
    encoded = tower(pixels.to(tower.device, tower.dtype), return_dict=True)
    embeddings = encoded.pooler_output
    if embeddings is None:
        embeddings = encoded.last_hidden_state.mean((2, 3))
    return torch.nn.functional.normalize(embeddings.float(), dim=-1)


def nearest_image(model: Any, processor: Any, images: Sequence[Image.Image]) -> int:
    """Which of the images after the first is most similar to the first, by cosine of their embeddings, from 0."""
    embeddings = image_embeddings(model, processor, images)
    return int((embeddings[1:] @ embeddings[0]).argmax())


__all__ = ["generate_answers", "image_embeddings", "nearest_image", "score_continuations", "to_messages"]
