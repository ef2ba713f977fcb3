# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Batches for training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..processing_fastvlm import FastVLMProcessor
from .image_features import ImageFeatures
from .rows import NO_LOSS, EncodedText, RowError, RowFormat, encode_row, encode_text, read_messages
from .sources import UNITS, place_column


@dataclass
class FastVLMDataCollator:
    """Turns rows of a chat data set into batches with a loss on the assistant's tokens alone.

    Args:
        processor ([`FastVLMProcessor`]): the checkpoint's processor.
        row_format ([`RowFormat`]): the columns, and how long an example may be.
        pad_to_multiple_of (`int`, *optional*): lengths are rounded up to a multiple of it.
        features ([`ImageFeatures`], *optional*): takes the images' features from there, in place of their pixels.
        packing (`bool`, defaults to `False`): rows one after the other instead of padding, each with positions from 0,
            by which decoders keep them apart; see `require_isolation`.
        learnt_positions_only (`bool`, defaults to `False`): have the model compute scores where the next token is
            learnt, and nowhere else: the same loss for less time and memory, with fewer `logits`.
    """

    processor: FastVLMProcessor
    row_format: RowFormat = field(default_factory=RowFormat)
    pad_to_multiple_of: int | None = None
    features: ImageFeatures | None = None
    packing: bool = False
    learnt_positions_only: bool = False

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Returns:
            `input_ids`, `attention_mask` and `labels`, int64 of shape `(batch, tokens)`, padded on the right, labels
            with -100; with packing, `input_ids`, `position_ids` and `labels` of `(1, tokens of all)`. And, if there is
            an image, `pixel_values`, float32 of shape `(crops of all images, 3, R, R)`, or in their place
            `mm_encoder_outputs`, which has `(crops of all images, channels, R / stride, R / stride)` in the encoder's
            dtype. With `learnt_positions_only`, also `logits_to_keep` and `shift_labels`.

        Raises:
            RowError: if a row cannot be trained on; see `prepare_dataset`, which finds such rows beforehand.
        """
        texts, images = zip(*map(self._encode, rows))
        batch = self.packed(texts) if self.packing else self.padded(texts)
        if self.learnt_positions_only:
            batch |= learnt_positions(batch["labels"])
        return batch | self.shown([each for each in images if each is not None])

    def padded(self, texts: Sequence[EncodedText]) -> dict[str, Any]:
        """Texts below each other, padded on the right."""
        batch = self.processor.tokenizer.pad(
            [{"input_ids": text.input_ids} for text in texts],
            padding_side="right",
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_attention_mask=True,
            return_tensors="pt",
        )
        labels = torch.full_like(batch["input_ids"], NO_LOSS)
        for row, text in enumerate(texts):
            labels[row, : len(text.labels)] = torch.tensor(text.labels)
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}

    def packed(self, texts: Sequence[EncodedText]) -> dict[str, Any]:
        """Texts one after the other. No cache: with one, transformers takes a packed row for a single text."""
        columns = {
            "input_ids": [token for text in texts for token in text.input_ids],
            "position_ids": [position for text in texts for position in range(len(text.input_ids))],
            "labels": [label for text in texts for label in text.labels],
        }
        return {name: torch.tensor([values]) for name, values in columns.items()} | {"use_cache": False}

    def shown(self, images: Sequence[torch.Tensor]) -> dict[str, Any]:
        """What the model is given of images: their pixels, or features."""
        if not images:
            return {}
        if self.features is None:
            return {"pixel_values": torch.cat(list(images))}
        return {"mm_encoder_outputs": {"image": {"last_hidden_state": torch.cat(list(images))}}}

    def _encode(self, row: dict[str, Any]) -> tuple[EncodedText, torch.Tensor | None]:
        with named_by_place(row):
            if self.features is None:
                return encode_row(self.processor, row, self.row_format)
            found = read_messages(row, self.row_format, self.processor.image_token)
            images = self.read_features(found.images, found.root)
            return encode_text(self.processor, found.messages, tokens_of_features(images), self.row_format), (
                torch.cat(images) if images else None
            )

    def read_features(self, images: Sequence[Any], root: str | None) -> list[torch.Tensor]:
        """Feature maps of images as rows name them, `(crops, channels, height, width)` each."""
        assert self.features is not None
        return [self.features.read(each, root, self.row_format.access) for each in images]


def learnt_positions(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """
    Args:
        labels: `(batch, tokens)`, not shifted.

    Returns:
        `logits_to_keep`, the positions `(kept,)` before tokens that are learnt in any row; and `shift_labels`,
        `(batch, kept)`, what is learnt there.
    """
    following = labels[:, 1:]  # (batch, tokens - 1)
    positions = (following != NO_LOSS).any(0).nonzero().flatten()
    return {"logits_to_keep": positions, "shift_labels": following[:, positions]}


def tokens_of_features(images: Sequence[torch.Tensor]) -> list[int]:
    """How many visual tokens each image has, from its feature maps, `(crops, channels, height, width)`."""
    return [each.shape[0] * each.shape[2] * each.shape[3] for each in images]


@contextmanager
def named_by_place(row: dict[str, Any]) -> Iterator[None]:
    """Errors of a row name its place in the source, where it says it."""
    try:
        yield
    except RowError as error:
        if (column := place_column(list(row))) is None:
            raise
        raise RowError(f"{UNITS[column].capitalize()} {row[column]}: {error}", error.reason) from error


@torch.no_grad()
def require_isolation(model: Any) -> None:
    """
    Try whether a model's decoder keeps packed texts apart.

    Args:
        model: a [`FastVLMForConditionalGeneration`], or a PEFT model around one.

    Raises:
        ValueError: if it does not, as with an attention implementation that looks at no positions.
    """
    training = model.training
    model.eval()
    ids = torch.arange(1, 9, device=model.device)[None] % model.get_input_embeddings().num_embeddings  # (1, 8)
    positions = torch.arange(4, device=model.device).repeat(2)[None]  # (1, 8), of two texts
    packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, 4:]
    alone = model(input_ids=ids[:, 4:], use_cache=False).logits
    model.train(training)
    if not torch.allclose(packed, alone, atol=1e-2 * float(alone.abs().max())):
        raise ValueError(
            "The decoder's attention does not keep packed rows apart: leave out --packing, or load the model with "
            'attn_implementation="sdpa".'
        )
