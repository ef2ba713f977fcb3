# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One row of a chat data set, to the tokens, labels and pixels that the model trains on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import PIL.Image
import torch

from ..processing_fastvlm import FastVLMProcessor
from .layouts import (
    LAYOUTS,
    QUESTION,
    TOO_LONG,
    Columns,
    Message,
    RowError,
    find_columns,
    taken_apart,
    to_messages,
)
from .row_images import ROOT_COLUMN, ImageAccess, put_in_place, read_row_image, values_in
from .sources import FAULT_COLUMN

NO_LOSS = -100


@dataclass(frozen=True)
class RowFormat:
    """How the rows of a data set become training examples.

    Args:
        messages_column: the column with the turns; `None` is one of the usual names.
        images_column: the column with the image or the list of images: PIL images, paths, addresses or what `datasets`
            stores; `None` is one of the usual names. Rows may have none.
        layout: of `LAYOUTS`; `None` recognises every row's by its columns.
        question: asked about images that only have a caption.
        access: which images may be read that are not in the data set, nor under its folder.
        max_length: longest example in tokens, visual tokens included; `None` for no limit.
        too_long: what becomes of a longer one: `"shorten"` cuts off its end, if that takes neither an image nor the
            whole answer from it, `"drop"` counts it as a faulty row.
    """

    messages_column: str | None = None
    images_column: str | None = None
    layout: str | None = None
    question: str = QUESTION
    access: ImageAccess = field(default_factory=ImageAccess)
    max_length: int | None = None
    too_long: str = TOO_LONG[0]

    def __post_init__(self):
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ValueError(f"Unknown layout {self.layout!r}; known are {', '.join(LAYOUTS)}.")
        if self.too_long not in TOO_LONG:
            raise ValueError(f"`too_long` is {' or '.join(map(repr, TOO_LONG))}, not {self.too_long!r}.")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"`max_length` is a number of tokens, at least 1, not {self.max_length}.")


@dataclass(frozen=True)
class EncodedText:
    """A conversation as tokens, every image being as many placeholders as it has visual tokens.

    Attributes:
        input_ids: tokens.
        labels: the assistant's tokens, each turn with the token that ends it; elsewhere -100.
        shortened: whether its end was cut off.
    """

    input_ids: list[int]
    labels: list[int]
    shortened: bool = False


@dataclass(frozen=True)
class RowMessages:
    """The conversation of a row as `apply_chat_template` takes it, with its images still unread.

    Attributes:
        messages: turns; an image is a part that says no more, or a placeholder token in a text.
        images: as the row names them, in the order of their places.
        root: folder that paths are relative to; `None` for rows that are no file's.
    """

    messages: list[Message]
    images: list[Any]
    root: str | None


def read_messages(row: Mapping[str, Any], row_format: RowFormat, image_token: str) -> RowMessages:
    """
    Raises:
        RowError: if the row has none of the known layouts, no assistant turn, or more or fewer images than places.
    """
    row, columns = read_columns(row, row_format)
    messages = to_messages(row, columns, row_format.question)
    if all(message["role"] != "assistant" for message in messages):
        raise RowError("There is no assistant turn, so there is nothing to learn.", "assistant")
    messages, images = put_in_place(messages, named_images(row, columns), image_token)
    return RowMessages(messages, images, row.get(ROOT_COLUMN))


def read_columns(row: Mapping[str, Any], row_format: RowFormat) -> tuple[Mapping[str, Any], Columns]:
    """
    A row, taken apart, and which of its columns its layout is in.

    Raises:
        RowError: if it has none of the known layouts.
    """
    if fault := row.get(FAULT_COLUMN):
        raise RowError(fault, "json")
    row = taken_apart(row)
    return row, find_columns(row, row_format.layout, row_format.messages_column, row_format.images_column)


def named_images(row: Mapping[str, Any], columns: Columns) -> list[Any]:
    """The images of a row, as its column has them."""
    return values_in(row.get(columns.images)) if columns.images else []


def read_conversation(
    row: Mapping[str, Any], row_format: RowFormat, image_token: str
) -> tuple[list[Message], list[PIL.Image.Image]]:
    """
    The conversation of a row as `apply_chat_template` takes it, and its images, decoded, upright and in RGB, in the
    order of their places.

    Raises:
        RowError: as `read_messages` does; if an image is missing, unreadable or may not be read.
    """
    found = read_messages(row, row_format, image_token)
    return found.messages, read_images(found, row_format)


def read_images(found: RowMessages, row_format: RowFormat) -> list[PIL.Image.Image]:
    """
    Raises:
        RowError: if one is missing, unreadable or may not be read.
    """
    return [read_row_image(each, index, found.root, row_format.access) for index, each in enumerate(found.images)]


def encode_text(
    processor: FastVLMProcessor, messages: list[dict[str, Any]], tokens_per_image: list[int], row_format: RowFormat
) -> EncodedText:
    """
    Tokens and labels of a conversation; the same tokens that the processor gives for it and its images.

    Args:
        tokens_per_image: how many visual tokens each image has, in the order of the placeholders.

    Raises:
        RowError: if placeholders and images differ in number, or it is longer than `row_format.max_length` and is not
            to be, or cannot be, shortened.
        ValueError: if the chat template does not mark the assistant's turns.
    """
    encoded = processor.tokenizer.apply_chat_template(
        messages,
        chat_template=processor.chat_template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    image_token = processor.image_token_id
    placeholders = encoded["input_ids"].count(image_token)
    if placeholders != len(tokens_per_image):
        raise RowError(
            f"{len(tokens_per_image)} images but {placeholders} `{processor.image_token}` or image parts in the "
            "messages.",
            "placeholders",
        )
    if not any(encoded["assistant_masks"]):
        raise ValueError(
            "The chat template does not mark what the assistant says: it needs `{% generation %}` around it. "
            "`processor.chat_template = CHAT_TEMPLATE` from `transformers_fastvlm.processing_fastvlm` has it."
        )
    counts = iter(tokens_per_image)
    input_ids: list[int] = []
    labels: list[int] = []
    for token, is_answer in zip(encoded["input_ids"], encoded["assistant_masks"]):
        repeats = next(counts) if token == image_token else 1
        input_ids += [token] * repeats
        labels += [token if is_answer and token != image_token else NO_LOSS] * repeats
    if row_format.max_length is None or len(input_ids) <= row_format.max_length:
        return EncodedText(input_ids, labels)
    return _shorten(EncodedText(input_ids, labels), image_token, row_format)


def _shorten(text: EncodedText, image_token: int, row_format: RowFormat) -> EncodedText:
    length, limit = len(text.input_ids), row_format.max_length
    if row_format.too_long == "drop":
        raise RowError(f"It has {length} tokens, more than {limit}.", "length")
    if image_token in text.input_ids[limit:]:
        raise RowError(f"It has {length} tokens; shortened to {limit}, it would lose part of an image.", "length")
    if all(label == NO_LOSS for label in text.labels[:limit]):
        raise RowError(f"It has {length} tokens; shortened to {limit}, it would lose the whole answer.", "length")
    return EncodedText(text.input_ids[:limit], text.labels[:limit], shortened=True)


def read_row(
    processor: FastVLMProcessor, row: dict[str, Any], row_format: RowFormat
) -> tuple[EncodedText, list[PIL.Image.Image]]:
    """
    Everything that a row can fail in: its conversation as tokens and labels, and its images, not yet prepared.

    Raises:
        RowError: if the row cannot be trained on.
    """
    messages, images = read_conversation(row, row_format, processor.image_token)
    return encode_text(processor, messages, tokens_of(processor, images), row_format), images


def tokens_of(processor: FastVLMProcessor, images: list[PIL.Image.Image]) -> list[int]:
    """How many visual tokens each image has."""
    sizes = [(image.height, image.width) for image in images]
    return processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]


def pixels_of(processor: FastVLMProcessor, images: list[PIL.Image.Image]) -> torch.Tensor | None:
    """`(crops, 3, R, R)`, float32; `None` without images."""
    return processor.image_processor(images, return_tensors="pt")["pixel_values"] if images else None


def encode_row(
    processor: FastVLMProcessor, row: dict[str, Any], row_format: RowFormat
) -> tuple[EncodedText, torch.Tensor | None]:
    """
    Tokens, labels and pixels of a row.

    Returns:
        the text, and `pixel_values`, float32 of shape `(crops, 3, R, R)`, or `None` if the row has no image.

    Raises:
        RowError: if the row cannot be trained on.
    """
    text, images = read_row(processor, row, row_format)
    return text, pixels_of(processor, images)
