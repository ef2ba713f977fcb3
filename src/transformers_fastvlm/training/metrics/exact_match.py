# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Exact match as a metric module for `evaluate.load`, which would fetch its own script from the Hub."""

import datasets
import evaluate


class ExactMatch(evaluate.Metric):
    """Share of predictions that equal their reference, but for white space around them."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of predictions that equal their reference, but for white space around them.",
            citation="",
            inputs_description="predictions, references: lists of strings.",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        equal = sum(guess.strip() == truth.strip() for guess, truth in zip(predictions, references))
        return {"exact_match": equal / len(references)}
