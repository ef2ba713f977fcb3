# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Batches for training."""

from dataclasses import dataclass, field
from typing import Any

import torch

from ..processing_fastvlm import FastVLMProcessor
from .rows import NO_LOSS, EncodedText, RowError, RowFormat, encode_row
from .sources import UNITS, place_column


@dataclass
class FastVLMDataCollator:
    """Turns rows of a chat data set into batches with a loss on the assistant's tokens alone.

    Args:
        processor ([`FastVLMProcessor`]): the checkpoint's processor.
        row_format ([`RowFormat`]): the columns, and how long an example may be.
        pad_to_multiple_of (`int`, *optional*): lengths are rounded up to a multiple of it.
    """

    processor: FastVLMProcessor
    row_format: RowFormat = field(default_factory=RowFormat)
    pad_to_multiple_of: int | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        Returns:
            `input_ids`, `attention_mask` and `labels`, int64 of shape `(batch, tokens)`, padded on the right, labels
            with -100; and `pixel_values`, float32 of shape `(crops of all images, 3, R, R)`, if there is an image.

        Raises:
            RowError: if a row cannot be trained on; see `prepare_dataset`, which finds such rows beforehand.
        """
        texts, pixels = zip(*map(self._encode, rows))
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
        result = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}
        crops = [values for values in pixels if values is not None]
        if crops:
            result["pixel_values"] = torch.cat(crops)
        return result

    def _encode(self, row: dict[str, Any]) -> tuple[EncodedText, torch.Tensor | None]:
        try:
            return encode_row(self.processor, row, self.row_format)
        except RowError as error:
            if (column := place_column(list(row))) is None:
                raise
            raise RowError(f"{UNITS[column].capitalize()} {row[column]}: {error}", error.reason) from error
