# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Answers that are JSON of a schema: llguidance says which tokens may come next."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor

from ..extras import require

# On one line, as `json.dumps` has it: a model that is in doubt could go on with blanks for ever.
_LAYOUT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class JsonAnswers:
    """
    What makes answers of one model JSON of schemas.

    Args:
        tokenizer: the processor's.
        vocabulary: entries of the decoder's head.
        ends: ids of the tokens that end an answer.

    Raises:
        MissingLibraryError: if llguidance is not installed.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Sequence[int]):
        require(["llguidance"], "schema", "A JSON schema for answers")
        import llguidance.hf

        # Takes a second for a vocabulary of 150,000.
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=list(ends))
        self._vocabulary = vocabulary

    def processor(self, schema: Mapping[str, Any]) -> LogitsProcessor:
        """
        For the `logits_processor` of `generate`, for one answer to one prompt.

        Raises:
            ValueError: if it is no JSON schema, or has what llguidance cannot hold an answer to.
        """
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_LAYOUT)
        if error := LLMatcher.validate_grammar(grammar, self._tokenizer):
            raise ValueError(f"No answer can be held to this JSON schema: {error}")
        return _OneAnswer(LLMatcher(self._tokenizer, grammar), self._vocabulary)


class _OneAnswer(LogitsProcessor):
    def __init__(self, matcher: Any, vocabulary: int):
        self._matcher = matcher
        self._bits = np.zeros((1, (vocabulary + 31) // 32), dtype=np.int32)
        self._seen: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            input_ids: `(1, positions)`.
            scores: `(1, vocabulary)`.
        """
        if input_ids.shape[0] != 1:
            raise ValueError(f"A JSON schema is for one answer at a time, not {input_ids.shape[0]}.")
        from llguidance.numpy import fill_next_token_bitmask

        if self._seen is not None:
            self._matcher.consume_tokens(input_ids[0, self._seen :].tolist())
        self._seen = input_ids.shape[1]
        fill_next_token_bitmask(self._matcher, self._bits)
        if self._matcher.is_error():
            raise RuntimeError(f"llguidance cannot go on: {self._matcher.get_error()}")
        allowed = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: scores.shape[1]].astype(bool)
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)


__all__ = ["JsonAnswers"]
