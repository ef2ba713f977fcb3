# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Rows as questions: what a model answers to them, beside what they say is true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch

from .layouts import Message, RowError, accepted_answers
from .rows import RowFormat, read_columns, read_conversation
from .sources import UNITS, place_column

MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class RowAnswer:
    """
    Args:
        place: of the row in its source, such as "line 6"; its images' and texts' own where it does not say.
        question: the text of the last question, without placeholders.
        truths: the answers that the row accepts, first the one that is trained on.
        answer: the model's.
    """

    place: str
    question: str
    truths: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class RowQuestion:
    """The turns before a row's last answer, their images, and the answers that the row accepts."""

    place: str
    messages: list[Message]
    images: list[PIL.Image.Image]
    truths: tuple[str, ...]


def read_question(row: Mapping[str, Any], row_format: RowFormat, image_token: str, index: int = 0) -> RowQuestion:
    """
    A row up to its last answer.

    Args:
        index: what the row is called if it does not say its place.

    Raises:
        RowError: as `read_conversation` does; if the answer is no text, or comes first.
    """
    messages, images = read_conversation(row, row_format, image_token)
    last = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
    if last == 0 or messages[last - 1]["role"] != "user":
        raise RowError("Its last answer has no question before it.", "messages")
    shown = sum(_images_in(message, image_token) for message in messages[:last])
    truths = accepted_answers(*read_columns(row, row_format))
    column = place_column(list(row))
    place = f"{UNITS[column]} {row[column]}" if column else f"row {index}"
    return RowQuestion(place, messages[:last], images[:shown], truths or (text_of(messages[last]),))


def _images_in(message: Message, image_token: str) -> int:
    content = message["content"]
    if isinstance(content, str):
        return content.count(image_token)
    return sum(part["type"] == "image" or part.get("text", "").count(image_token) for part in content)


def text_of(message: Message) -> str:
    """The words of a message."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


@torch.no_grad()
def answer_questions(
    model: Any, processor: Any, questions: Sequence[RowQuestion], max_new_tokens: int = MAX_NEW_TOKENS
) -> list[RowAnswer]:
    """
    Greedy answers to questions, all in one batch.

    Args:
        model: a [`FastVLMForConditionalGeneration`], or a PEFT model around one; it may be in training.
        processor: its [`FastVLMProcessor`].
        questions: at least one.
        max_new_tokens: of an answer.
    """
    prompts = [
        processor.tokenizer.apply_chat_template(
            question.messages, chat_template=processor.chat_template, tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]
    images = [question.images for question in questions]
    given: dict[str, Any] = {"images": images} if any(images) else {}
    inputs = processor(text=prompts, padding=True, padding_side="left", return_tensors="pt", **given)
    with _answering(model):
        output = model.generate(**inputs.to(model.device), max_new_tokens=max_new_tokens, do_sample=False)
    texts = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [
        RowAnswer(each.place, _words(each.messages[-1], processor.image_token), each.truths, text.strip())
        for each, text in zip(questions, texts)
    ]


def _words(message: Message, image_token: str) -> str:
    return text_of(message).replace(image_token, "").strip()


@contextmanager
def _answering(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
