# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What lmms-eval's tasks say of how they are answered, in the terms of `generate`."""

from collections.abc import Sequence
from typing import Any

# What LLaVA's models in lmms-eval take where a task sets no limit.
MAX_NEW_TOKENS = 1024
# Options of a task's `generation_kwargs` that `generate` knows by the same name.
_GENERATION_OPTIONS = ("max_new_tokens", "min_new_tokens", "num_beams", "repetition_penalty")
_SAMPLING_OPTIONS = ("temperature", "top_p", "top_k")


def generation_options(task_options: dict[str, Any]) -> dict[str, Any]:
    """
    Arguments of `generate` for a task's `generation_kwargs`: greedy, unless they ask for sampling.

    A temperature of 0 means greedy, as in lmms-eval. Options of other models are left out.
    """
    given = {name: value for name, value in task_options.items() if value is not None}
    sample = bool(given.get("do_sample", given.get("temperature", 0) > 0)) and given.get("temperature", 1) > 0
    names = _GENERATION_OPTIONS + (_SAMPLING_OPTIONS if sample else ())
    return {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": sample} | {n: given[n] for n in names if n in given}


def cut_at(text: str, ends: str | Sequence[str]) -> str:
    """`text` up to the first of the strings at which a task's answers end."""
    for end in [ends] if isinstance(ends, str) else ends:
        text = text.partition(end)[0] if end else text
    return text


__all__ = ["cut_at", "generation_options"]
