# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""ANLS as a metric module for `evaluate.load`: DocVQA's and InfoVQA's."""

import datasets
import evaluate
from rapidfuzz.distance import Levenshtein


class Anls(evaluate.Metric):
    """Average normalized Levenshtein similarity (arXiv 1907.00490, equation 1), the best over the references."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Average normalized Levenshtein similarity, where less than the threshold counts as 0.",
            citation="arXiv 1907.00490",
            inputs_description=(
                "predictions: list of strings; no answer is an empty one. references: a list of accepted "
                "strings for each. threshold: defaults to 0.5."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(
        self, predictions: list[str | None], references: list[list[str]], threshold: float = 0.5
    ) -> dict[str, float]:
        if not len(predictions):
            raise ValueError("There are no answers to score.")
        scores = [
            max(similarity(guess or "", answer) for answer in answers)
            for guess, answers in zip(predictions, references, strict=True)
        ]
        return {"anls": sum(score for score in scores if score >= threshold) / len(scores)}


def similarity(prediction: str, reference: str) -> float:
    """1 for equal texts, 0 for those with nothing in common; case and the width of white space do not count."""
    # The published scorer divides by the lengths before white space is collapsed, in upper case.
    longest = max(len(prediction.upper()), len(reference.upper()))
    distance = Levenshtein.distance(*(" ".join(text.lower().split()) for text in (prediction, reference)))
    return 1 - distance / longest if longest else 1.0
