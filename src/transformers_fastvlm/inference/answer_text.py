# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The text of an answer as its tokens come: whole characters, up to where a stop text begins."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream


class AnswerText:
    """
    Tokens to text, one after the other. transformers' own streamers hold texts back until a space comes.

    Args:
        tokenizer: the processor's.
        stop: texts that end the answer, and are no part of it.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()):
        self.token_ids: list[int] = []
        self.is_stopped = False  # by a stop text
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._stop = tuple(stop)
        self._decoded = ""  # all there is, stop texts too
        self._given = 0  # characters of it

    @property
    def text(self) -> str:
        """What was given out so far."""
        return self._decoded[: self._given]

    def push(self, token_id: int) -> str:
        """The text that is certain with one more token: may be empty, and have characters of earlier tokens."""
        if self.is_stopped:
            return ""
        self.token_ids.append(token_id)
        self._decoded += self._stream.step(self._tokenizer.backend_tokenizer, token_id) or ""
        return self._give(may_go_on=True)

    def finish(self) -> str:
        """The rest, when no token follows: what might have begun a stop text, and the start of a character."""
        if not self.is_stopped:
            whole = self._tokenizer.decode(self.token_ids, skip_special_tokens=True)
            if whole.startswith(self._decoded):
                self._decoded = whole
        return self._give(may_go_on=False)

    def _give(self, may_go_on: bool) -> str:
        if self.is_stopped:
            return ""
        starts = [place for text in self._stop if (place := self._decoded.find(text, self._given)) >= 0]
        end = len(self._decoded)
        if starts:
            self.is_stopped, end = True, min(starts)
        elif may_go_on:
            end -= max((_begun(self._decoded[self._given :], text) for text in self._stop), default=0)
        start, self._given = self._given, end
        return self._decoded[start:end]


def _begun(text: str, stop: str) -> int:
    """How many characters at a text's end may be the beginning of a stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((count for count in range(longest, 0, -1) if text.endswith(stop[:count])), 0)
