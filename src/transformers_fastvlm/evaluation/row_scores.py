# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The metrics of this package on answers to rows of any data set."""

from collections.abc import Callable, Sequence
from typing import Any

from ..training.row_questions import RowAnswer
from .metric_loading import load_metric

_PEOPLE = 10  # who answered each of VQA's questions


def row_score(name: str) -> Callable[[Sequence[RowAnswer]], float]:
    """
    A function from answers to one of `METRICS`, in 0..1; exact match is with the answer that is trained on.

    Raises:
        ValueError, MissingLibraryError: as `load_metric` does.
    """
    metric = load_metric(name)

    def score(answers: Sequence[RowAnswer]) -> float:
        references = [_references(name, each.truths) for each in answers]
        found = metric.compute(predictions=[each.answer for each in answers], references=references)
        return float(found[name])

    return score


def _references(name: str, truths: tuple[str, ...]) -> Any:
    if name == "exact_match":
        return truths[0]
    # A row with one answer stands for people who all gave it; the metric counts how many agree.
    return list(truths) * (_PEOPLE if name == "vqa_accuracy" and len(truths) == 1 else 1)


__all__ = ["row_score"]
