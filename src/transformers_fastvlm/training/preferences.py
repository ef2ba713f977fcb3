# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Rows with a chosen and a rejected answer, for TRL's `DPOTrainer`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import PIL.Image
import torch

from ..processing_fastvlm import FastVLMProcessor
from .collator import FastVLMDataCollator, named_by_place, tokens_of_features
from .layouts import Message, to_preference
from .row_images import ROOT_COLUMN, put_in_place
from .rows import (
    NO_LOSS,
    EncodedText,
    RowFormat,
    RowMessages,
    encode_text,
    named_images,
    pixels_of,
    read_columns,
    read_images,
    tokens_of,
)


@dataclass(frozen=True)
class RowPreference:
    """The same conversation up to its end, with the chosen one and with the rejected one.

    Attributes:
        chosen, rejected: with the same images.
        asked: how many messages both have in common.
    """

    chosen: RowMessages
    rejected: RowMessages
    asked: int


def read_preference(row: Mapping[str, Any], row_format: RowFormat, image_token: str) -> RowPreference:
    """
    A row's conversations, with its images still unread.

    Raises:
        RowError: if the row is no preference, or has more or fewer images than places for them.
    """
    row, columns = read_columns(row, row_format)
    asked, *answers = to_preference(row, columns)
    images, root = named_images(row, columns), row.get(ROOT_COLUMN)
    chosen, rejected = (_placed(asked + answer, images, root, image_token) for answer in answers)
    return RowPreference(chosen, rejected, len(asked))


def _placed(messages: list[Message], images: list[Any], root: str | None, image_token: str) -> RowMessages:
    messages, images = put_in_place(messages, images, image_token)
    return RowMessages(messages, images, root)


def encode_preference(
    processor: FastVLMProcessor, preference: RowPreference, tokens_per_image: list[int], row_format: RowFormat
) -> tuple[EncodedText, EncodedText]:
    """
    Tokens of both conversations, with labels on the answer that tells them apart alone.

    Raises:
        RowError: as `encode_text` does.
    """
    both = []
    for found in (preference.chosen, preference.rejected):
        text = encode_text(processor, found.messages, tokens_per_image, row_format)
        before = sum(message["role"] == "assistant" for message in found.messages[: preference.asked])
        both.append(_without_turns(text, before))
    return both[0], both[1]


def _without_turns(text: EncodedText, count: int) -> EncodedText:
    """The same with no labels on the first `count` answers."""
    labels: list[int] = []
    for is_learnt, run in groupby(text.labels, lambda label: label != NO_LOSS):
        values = list(run)
        if is_learnt and count:
            count, values = count - 1, [NO_LOSS] * len(values)
        labels += values
    return replace(text, labels=labels)


def read_preference_row(
    processor: FastVLMProcessor, row: dict[str, Any], row_format: RowFormat
) -> tuple[EncodedText, list[PIL.Image.Image]]:
    """
    Everything that a row can fail in, as `read_row` does of others: the longer of its texts, and its images.

    Raises:
        RowError: if the row cannot be trained on.
    """
    preference = read_preference(row, row_format, processor.image_token)
    images = read_images(preference.chosen, row_format)
    texts = encode_preference(processor, preference, tokens_of(processor, images), row_format)
    return max(texts, key=lambda text: len(text.input_ids)), images


@dataclass
class PreferenceCollator(FastVLMDataCollator):
    """Turns rows with a chosen and a rejected answer into the batches that `DPOTrainer` takes.

    Args:
        as of [`FastVLMDataCollator`]; without packing.
    """

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Returns:
            `input_ids`, `attention_mask` and `completion_mask`, int64 of shape `(2 * batch, tokens)`, padded on the
            right, all chosen ones before all rejected ones, 1 in the last for tokens of the answers; and the images of
            both, as of [`FastVLMDataCollator`].

        Raises:
            RowError: if a row cannot be trained on.
        """
        pairs, images = zip(*(self._encode_pair(row) for row in rows))
        batch = self.padded([text for side in zip(*pairs) for text in side])
        batch["completion_mask"] = (batch.pop("labels") != NO_LOSS).long()
        return batch | self.shown([each for each in images if each is not None] * 2)

    def _encode_pair(self, row: dict[str, Any]) -> tuple[tuple[EncodedText, EncodedText], torch.Tensor | None]:
        with named_by_place(row):
            preference = read_preference(row, self.row_format, self.processor.image_token)
            if self.features is not None:
                maps = self.read_features(preference.chosen.images, preference.chosen.root)
                shown, counts = torch.cat(maps) if maps else None, tokens_of_features(maps)
            else:
                images = read_images(preference.chosen, self.row_format)
                shown, counts = pixels_of(self.processor, images), tokens_of(self.processor, images)
            return encode_preference(self.processor, preference, counts, self.row_format), shown
