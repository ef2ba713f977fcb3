# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's tokenizer: damaged and missing files are named, and threads that share it take turns."""

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from .checkpoint_files import hub_file, read_json_object

TOKENIZER_NAME = "tokenizer.json"
_CONFIG_NAMES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

_turns: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, threading.Lock] = weakref.WeakKeyDictionary()


class TokenizerTakingTurns:
    """A tokenizer whose calls wait for each other, and all else of it.

    Padding and truncation are state of its Rust part, which every call sets anew.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **kwargs) -> Any:
        # The lock is not the tokenizer's own: that is copied and pickled.
        with _turns.setdefault(self._tokenizer, threading.Lock()):
            return self._encode(*args, **kwargs)

    def _encode(self, *args, **kwargs) -> Any:
        return self._tokenizer(*args, **kwargs)


if hasattr(os, "register_at_fork"):  # a child has its parent's locks, but not the threads that would release them
    os.register_at_fork(after_in_child=_turns.clear)


def load_tokenizer(
    load: Callable[[], PreTrainedTokenizerBase], source: str | os.PathLike, arguments: Mapping[str, Any]
) -> PreTrainedTokenizerBase:
    """
    A checkpoint's tokenizer.

    Args:
        load (`Callable`): loads it.
        source (`str` or `os.PathLike`): the checkpoint's folder or Hub id.
        arguments: where on the Hub, see `HUB_ARGUMENTS`.

    Raises:
        OSError: if its files are missing or damaged; the message names them.
    """
    refuse_damaged(source, _CONFIG_NAMES, arguments)
    if hub_file(source, _CONFIG_NAMES[0], arguments) is None:
        raise OSError(f"{source} has no {_CONFIG_NAMES[0]}, which says what the tokenizer's special tokens are for.")
    try:
        tokenizer = load()
    except Exception as error:  # tokenizers raises plain exceptions, and transformers what damaged settings lead to
        refuse_damaged(source, [TOKENIZER_NAME], arguments)
        raise OSError(
            f"The tokenizer in {source} cannot be loaded from its {TOKENIZER_NAME} and {_CONFIG_NAMES[0]}: {error}"
        ) from error
    if not isinstance(tokenizer.model_max_length, (int, float)):
        longest = tokenizer.model_max_length
        raise OSError(f"{source} is damaged: its {_CONFIG_NAMES[0]} has {longest!r} as `model_max_length`.")
    if hub_file(source, TOKENIZER_NAME, arguments) is None:
        names = getattr(tokenizer, "vocab_files_names", {})
        needed = [name for kind, name in names.items() if kind != "tokenizer_file"] or [TOKENIZER_NAME]
        if missing := [name for name in needed if hub_file(source, name, arguments) is None]:
            # transformers would go on with an empty vocabulary.
            raise OSError(f"{source} has no {TOKENIZER_NAME}, and no {' and '.join(missing)} in its place.")
    return tokenizer


def refuse_damaged(source: str | os.PathLike, names: Iterable[str], arguments: Mapping[str, Any]) -> None:
    """Raise an `OSError` that names the first of a checkpoint's files that is there, but holds no JSON object."""
    for name in names:
        if (path := hub_file(source, name, arguments)) is not None:
            try:
                read_json_object(path)
            except ValueError as error:
                raise OSError(str(error)) from error
