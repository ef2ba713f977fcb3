# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Control tokens that somebody typed are text: only those that a chat template writes are tokens.

Newer releases of transformers have this, as the option `sanitize_control_tokens` of `apply_chat_template`; here it is
for all that are supported, and also where a token is in parts of a message that the template joins.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

from .tokenizer_loading import TokenizerTakingTurns

# A noncharacter of Unicode, which no text has: it stands in what would be a control token, and is dropped at last.
MARK = "\ufdd0"
_PADDING_OPTIONS = ("padding", "max_length", "pad_to_multiple_of", "padding_side", "return_attention_mask")


def marked(value: Any, tokenizer: Any) -> Any:
    """
    Conversations, tools or other variables of a chat template with a mark inside every control token in their texts.

    Args:
        value: texts, and lists and dictionaries with texts in them; anything else stays as it is.
        tokenizer: whose special tokens are control tokens.
    """
    if isinstance(value, str):
        return _pattern(_control_tokens(tokenizer)).sub(rf"\1{MARK}", value.replace(MARK, ""))
    value = getattr(value, "messages", value)  # what transformers takes for a conversation
    if isinstance(value, Mapping):
        if str(value.get("type", "")).startswith("image"):  # whose texts say where it is
            return value
        return {key: marked(item, tokenizer) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [marked(item, tokenizer) for item in value]
        # Texts of one message, which the template may join to a control token.
        pairs = zip(items, [*items[1:], None])
        return [_kept_apart(item) if _is_text(item) and _is_text(after) else item for item, after in pairs]
    return value


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _kept_apart(part: Mapping[str, Any]) -> dict[str, Any]:
    text = part["text"]
    return {**part, "text": text + MARK if text[-1:].strip() else text}


def _control_tokens(tokenizer: Any) -> tuple[str, ...]:
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted((token for token in special if len(token) > 1), key=len, reverse=True))


@functools.lru_cache(maxsize=16)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern:
    """Where a control token starts, whatever it overlaps with: its first character."""
    return re.compile(f"(?=(?:{_alternatives(tokens)}))(.)", re.DOTALL)


def _alternatives(tokens: tuple[str, ...]) -> str:
    return "|".join(map(re.escape, tokens)) or "(?!)"


class MarkedTextTokenizer(TokenizerTakingTurns):
    """A tokenizer of prompts that were made of [`marked`] conversations: what has a mark is text, without it."""

    def _encode(self, text: Any, **options: Any) -> Any:
        """
        Raises:
            ValueError: if the option of truncation, or one that counts characters, is asked for.
        """
        wanted = {name for name in ("truncation", "return_offsets_mapping") if options.get(name)}
        if wanted:
            raise ValueError(f"`sanitize_control_tokens` cannot be used with {' and '.join(sorted(wanted))}.")
        texts = [text] if isinstance(text, str) else text
        padding = {name: options[name] for name in _PADDING_OPTIONS if options.get(name) is not None}
        return self._tokenizer.pad({"input_ids": [self._ids(each) for each in texts]}, **padding)

    def _ids(self, text: str) -> list[int]:
        tokens = _control_tokens(self._tokenizer)
        pieces = re.split(f"({_alternatives(tokens)})", text) if tokens else [text]
        vocabulary = self._tokenizer.get_added_vocab()
        ids: list[int] = []
        for place, piece in enumerate(pieces):
            if place % 2:
                ids.append(vocabulary[piece])
            elif piece := piece.replace(MARK, ""):
                ids += self._tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids
