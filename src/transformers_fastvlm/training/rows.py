# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One row of a chat data set, to the tokens, labels and pixels that the model trains on."""

from dataclasses import dataclass
from typing import Any, Literal

import PIL.Image
import torch

from ..image_reading import read_image, to_rgb
from ..processing_fastvlm import FastVLMProcessor

NO_LOSS = -100
Reason = Literal["image", "messages", "assistant", "placeholders", "length"]
_LLAVA_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


class RowError(ValueError):
    """A row that cannot be trained on.

    Args:
        message: what is wrong, in the terms of the data set.
        reason: the kind of fault, by which rows are counted.
    """

    def __init__(self, message: str, reason: Reason):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        return type(self), (str(self), self.reason)  # it crosses from one process to another


@dataclass(frozen=True)
class RowFormat:
    """How the rows of a data set become training examples.

    Args:
        messages_column: the column with the conversation: a list of `{"role", "content"}`, where content is text, with
            an `<image>` where an image belongs, or a list of parts; or of LLaVA's `{"from", "value"}`.
        images_column: the column with the image or the list of images: PIL images, paths, URLs or what `datasets`
            stores; `None` for text alone. Rows may have none.
        max_length: longest example in tokens, visual tokens included; `None` for no limit.
        too_long: what becomes of a longer one: `"shorten"` cuts off its end, if that takes neither an image nor the
            whole answer from it, `"drop"` counts it as a faulty row.
    """

    messages_column: str = "messages"
    images_column: str | None = "images"
    max_length: int | None = None
    too_long: Literal["shorten", "drop"] = "shorten"

    def __post_init__(self):
        if self.too_long not in ("shorten", "drop"):
            raise ValueError(f"`too_long` is 'shorten' or 'drop', not {self.too_long!r}.")
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


def read_messages(row: dict[str, Any], row_format: RowFormat) -> list[dict[str, Any]]:
    """
    The conversation of a row, as `apply_chat_template` takes it.

    Raises:
        RowError: if it is not one of the known kinds, or has no assistant turn.
    """
    value = row[row_format.messages_column]
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(turn, dict) for turn in value):
        raise RowError(f"`{row_format.messages_column}` is not a list of messages but {_describe(value)}.", "messages")
    messages = []
    for turn in value:
        if "from" in turn and "role" not in turn:
            role, content = _LLAVA_ROLES.get(turn["from"], turn["from"]), turn.get("value")
        else:
            role, content = turn.get("role"), turn.get("content")
        if role not in ("system", "user", "assistant"):
            raise RowError(f"Unknown role {role!r}; known are system, user and assistant.", "messages")
        if not isinstance(content, (str, list, tuple)):
            raise RowError(f"The content of a {role} message is {_describe(content)}, not text or parts.", "messages")
        messages.append({"role": role, "content": content})
    if all(message["role"] != "assistant" for message in messages):
        raise RowError("There is no assistant turn, so there is nothing to learn.", "assistant")
    return messages


def read_images(row: dict[str, Any], row_format: RowFormat) -> list[PIL.Image.Image]:
    """
    The images of a row, decoded, upright and in RGB.

    Raises:
        RowError: if one is missing or unreadable.
    """
    value = row[row_format.images_column] if row_format.images_column else None
    values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    return [_read_image(each, index) for index, each in enumerate(values)]


def _read_image(value: Any, index: int) -> PIL.Image.Image:
    if isinstance(value, dict):  # as `datasets` stores images
        value = value.get("bytes") or value.get("path")
    if value is None:
        raise RowError(f"Image {index} is missing: there is neither a path nor a content.", "image")
    try:
        return to_rgb(value if isinstance(value, PIL.Image.Image) else read_image(value))
    except Exception as error:  # requests, decoders and pixels fail in many ways
        raise RowError(f"Image {index}: {error}", "image") from error


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
    messages = read_messages(row, row_format)
    images = read_images(row, row_format)
    sizes = [(image.height, image.width) for image in images]
    tokens_per_image = processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"]
    return encode_text(processor, messages, tokens_per_image, row_format), images


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
    return text, processor.image_processor(images, return_tensors="pt")["pixel_values"] if images else None


def _describe(value: Any) -> str:
    return "empty" if value is None or value in ([], ()) else f"a {type(value).__name__}"
