# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a model answers to fixed pictures and questions, and how far an export of it is from that."""

from dataclasses import dataclass
from typing import Any

import torch

from ..inference.fixed_inputs import several_fixed_inputs
from .errors import ExportError

_NEW_TOKENS = 16


@dataclass(frozen=True)
class Answer:
    """
    Args:
        logits: of the first token, `(vocab,)` in float32.
        tokens: of the greedy answer.
    """

    logits: torch.Tensor
    tokens: list[int]


@dataclass(frozen=True)
class Comparison:
    """
    Args:
        difference: the largest of the distances between first logits, as a share of their length.
        same: how many of the answers are the same, token for token.
        count: of them.
    """

    difference: float
    same: int
    count: int


def answers_of(model: Any, processor: Any) -> list[Answer]:
    """Greedy answers of a model, of any kind that has `generate`, to the fixed questions."""
    answers = []
    for inputs in several_fixed_inputs(processor):
        found = model.generate(
            **inputs, max_new_tokens=_NEW_TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        tokens = found.sequences[0, inputs["input_ids"].shape[1] :]
        answers.append(Answer(found.logits[0][0].float(), tokens.tolist()))
    return answers


def compare(exported: list[Answer], expected: list[Answer], bound: float) -> Comparison:
    """
    Raises:
        ExportError: if logits are further apart than a bound, as a share of their length.
    """
    difference = max(
        float((ours.logits - theirs.logits).norm() / theirs.logits.norm()) for ours, theirs in zip(exported, expected)
    )
    if not difference <= bound:  # NaN is not
        raise ExportError(
            f"What was written differs: its scores by {difference:.1e} of their length, over {bound:.1e}."
        )
    same = sum(ours.tokens == theirs.tokens for ours, theirs in zip(exported, expected))
    return Comparison(difference, same, len(expected))
