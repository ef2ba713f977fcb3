# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Exact match as a metric module for `evaluate.load`, which would fetch its own script from the Hub."""

import string

import datasets
import evaluate
from sklearn.metrics import accuracy_score

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class ExactMatch(evaluate.Metric):
    """Share of predictions that equal their reference, but for white space around them."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of predictions that equal their reference, but for white space around them.",
            citation="",
            inputs_description=(
                "predictions, references: lists of strings; no answer is an empty one. ignore_case, "
                "ignore_punctuation: whether those differences count."
            ),
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(
        self,
        predictions: list[str | None],
        references: list[str | None],
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
    ) -> dict[str, float]:
        if not len(predictions):
            raise ValueError("There are no answers to score.")

        def normalized(text: str | None) -> str:
            text = (text or "").strip()
            text = text.lower() if ignore_case else text
            return text.translate(_NO_PUNCTUATION) if ignore_punctuation else text

        equal = accuracy_score([*map(normalized, references)], [*map(normalized, predictions)])
        return {"exact_match": float(equal)}
