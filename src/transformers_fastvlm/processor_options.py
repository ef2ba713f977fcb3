# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of what a processor is given: options of a call and in files, prompts and conversations."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from transformers.processing_utils import ProcessingKwargs, TextKwargs

from .image_processing_common_fastvlm import FastVLMImageProcessorKwargs, refuse_misspelt, refuse_unknown
from .image_processing_pil_fastvlm import FastVLMImageProcessorPil

TEXT_OPTIONS = frozenset(TextKwargs.__annotations__)
IMAGE_OPTIONS = frozenset(FastVLMImageProcessorKwargs.__annotations__)
PROCESSING_OPTIONS = TEXT_OPTIONS | IMAGE_OPTIONS | frozenset(ProcessingKwargs.__annotations__)
# Those that transformers takes out of a call before it looks at the others.
_CALL_OPTIONS = PROCESSING_OPTIONS | {"common_kwargs", "return_metadata", "sanitize_control_tokens", "videos", "audio"}
_SIDES = ("left", "right")


def check_call_options(tokenizer: Any, options: Mapping[str, Any]) -> None:
    """Raise a `TypeError` if the processor has no such option, a `ValueError` if an image option has a wrong value."""
    refuse_unknown(options, _CALL_OPTIONS, "FastVLMProcessor")
    for name in ("text_kwargs", "images_kwargs", "common_kwargs"):
        if not isinstance(options.get(name, {}), Mapping):
            raise TypeError(f"`{name}` must be a dictionary of options, got {options[name]!r}.")
    if "text_kwargs" in options:
        of_call = set(inspect.signature(type(tokenizer).__call__).parameters)
        refuse_unknown(options["text_kwargs"], TEXT_OPTIONS | of_call, "`text_kwargs`")
    refuse_unknown(options.get("images_kwargs", {}), IMAGE_OPTIONS, "`images_kwargs`")
    refuse_unknown(options.get("common_kwargs", {}), TEXT_OPTIONS | IMAGE_OPTIONS, "`common_kwargs`")
    FastVLMImageProcessorPil.checked(
        {name: value for name, value in options.items() if name in IMAGE_OPTIONS} | options.get("images_kwargs", {})
    )
    if {**options, **options.get("text_kwargs", {})}.get("is_split_into_words"):
        raise ValueError(
            "`is_split_into_words` cannot be used: a prompt is one text, in which `<image>` is looked for."
        )
    if (side := options.get("padding_side")) is not None:
        check_padding_side(side)


def check_padding_side(side: Any) -> None:
    """Raise a `ValueError` if prompts cannot be padded on this side."""
    if side not in _SIDES:
        raise ValueError(f"`padding_side` must be 'left' or 'right', got {side!r}.")


def check_processor_options(patch_size: Any, image_token: Any, padding_side: Any, chat_template: Any) -> None:
    """Raise a `ValueError` if the processor's own options, see [`FastVLMProcessor`], have values they cannot have."""
    if type(patch_size) is not int or patch_size < 1:
        raise ValueError(f"`patch_size` must be a number of pixels, at least 1, got {patch_size!r}.")
    if not isinstance(image_token, str) or not image_token:
        raise ValueError(f"`image_token` must be a text, got {image_token!r}.")
    check_padding_side(padding_side)
    templates = chat_template.values() if isinstance(chat_template, dict) else [chat_template]
    if chat_template is not None and not all(isinstance(template, str) for template in templates):
        raise ValueError(f"`chat_template` must be a text, or a dictionary of texts by name, got {chat_template!r}.")


def check_settings(settings: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> None:
    """
    Check what a processor's file says as a call's options are.

    Args:
        settings: what the file says.
        defaults: the processor's own options with their defaults.
        where (`str`): how the message of an error starts.

    Raises:
        ValueError: if there are options nearly of this name, or values that they cannot have.
    """
    try:
        refuse_misspelt(settings, {*defaults, "image_processor", "tokenizer", "audio_tokenizer"})
        check_processor_options(**{name: settings.get(name, default) for name, default in defaults.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    if "image_processor" in settings:
        FastVLMImageProcessorPil.check_settings(settings["image_processor"], f"{where}: `image_processor`")


def check_text(text: Any) -> None:
    """Raise a `ValueError` if something is neither a prompt nor a list of them, or one cannot be encoded."""
    if text is None:
        return
    prompts = [text] if isinstance(text, str) else text
    if not isinstance(prompts, (list, tuple)):
        raise ValueError(f"`text` must be a string or a list of strings, got {_kind(text)}.")
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise ValueError(f"`text` must be a string or a list of strings, but has {_kind(prompt)} in row {row}.")
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"`text` has half a character ({prompt[error.start]!a}, a lone surrogate) at position {error.start} "
                f"of row {row}: it was decoded wrongly."
            ) from None


def check_conversation(conversation: Any) -> bool:
    """
    Check that something is a conversation or a batch of them.

    Returns:
        `bool`: whether it is a batch.

    Raises:
        ValueError: if it is neither; the message says where.
    """
    if not isinstance(conversation, (list, tuple)) or not conversation:
        raise ValueError(f"A conversation must be a list of messages, got {_kind(conversation)}.")
    first = conversation[0]
    if hasattr(first, "content"):  # objects that transformers takes for conversations
        return True
    if not isinstance(first, (list, tuple)):
        _check_messages(conversation, "")
        return False
    for index, messages in enumerate(conversation):
        if not isinstance(messages, (list, tuple)) or not messages:
            raise ValueError(f"Conversation {index} must be a list of messages, got {_kind(messages)}.")
        _check_messages(messages, f" of conversation {index}")
    return True


def _check_messages(messages: Sequence[Any], of: str) -> None:
    for index, message in enumerate(messages):
        where = f"Message {index}{of}"
        if not isinstance(message, Mapping):
            raise ValueError(f"{where} must be a dictionary with `role` and `content`, got {_kind(message)}.")
        if not isinstance(message.get("role"), str):
            raise ValueError(f"{where} must have a text as `role`, got {message.get('role')!r}.")
        content = message.get("content")
        if isinstance(content, str) or (content is None and message.get("tool_calls")):
            continue
        if not isinstance(content, (list, tuple)):
            raise ValueError(f"{where} must have a text or a list of parts as `content`, got {_kind(content)}.")
        for place, part in enumerate(content):
            if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
                raise ValueError(f"Part {place} of {where.lower()} must be a dictionary with `type`, got {part!r}.")
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise ValueError(f"Part {place} of {where.lower()} must have a text as `text`, got {part!r}.")


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, (list, tuple, dict)) and not value:
        return f"an empty {type(value).__name__}"
    return f"{type(value).__name__} {value!r:.80}"
