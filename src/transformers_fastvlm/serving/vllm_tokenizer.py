# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""vLLM's `--tokenizer-mode fastvlm`: control tokens that a client typed are text."""

import copy
from typing import Any

from vllm.tokenizers.hf import CachedHfTokenizer

from ..control_tokens import MarkedTextTokenizer, marked


class FastVLMTokenizer(CachedHfTokenizer):
    """vLLM's usual tokenizer, whose prompts of conversations are ids already."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        return _with_typed_tokens_as_text(super().from_pretrained(*args, **kwargs))


def _with_typed_tokens_as_text(tokenizer: Any) -> Any:
    """A copy of a tokenizer that makes its prompts so; a class of its own, as vLLM makes one of each tokenizer."""

    class TokenizerOfConversations(type(tokenizer)):  # type: ignore[misc]
        def apply_chat_template(self, conversation: Any, **options: Any) -> list[int]:
            options |= {"tokenize": False, "return_dict": False}
            prompt = super().apply_chat_template(marked(conversation, self), **options)
            return MarkedTextTokenizer(tokenizer)(prompt)["input_ids"][0]

        def __reduce__(self) -> tuple:
            return _with_typed_tokens_as_text, (tokenizer,)

    own = copy.copy(tokenizer)
    own.__class__ = TokenizerOfConversations
    return own
