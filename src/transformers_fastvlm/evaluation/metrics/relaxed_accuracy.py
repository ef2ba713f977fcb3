# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Relaxed accuracy as a metric module for `evaluate.load`: ChartQA's."""

import datasets
import evaluate
import numpy as np


class RelaxedAccuracy(evaluate.Metric):
    """Share of predictions within 5 % of a number, or equal to a text (ChartQA, arXiv 2203.10244, section 5.1)."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of predictions within a tolerance of a reference that is a number, or equal to a text.",
            citation="arXiv 2203.10244",
            inputs_description=(
                "predictions: list of strings; no answer is an empty one. references: a list of accepted "
                "strings for each. tolerance: of the reference, defaults to 0.05."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(
        self, predictions: list[str | None], references: list[list[str]], tolerance: float = 0.05
    ) -> dict[str, float]:
        if not len(predictions):
            raise ValueError("There are no answers to score.")
        right = [
            any(is_close(guess or "", answer, tolerance) for answer in answers)
            for guess, answers in zip(predictions, references, strict=True)
        ]
        return {"relaxed_accuracy": float(np.mean(right))}


def to_number(text: str) -> float | None:
    """The number that a text is, with a percent sign as a hundredth of it."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def is_close(prediction: str, reference: str, tolerance: float) -> bool:
    """Whether both are numbers that close, or, unless the reference is a number but 0, the same text in any case."""
    prediction, reference = prediction.strip(), reference.strip()
    guess, truth = to_number(prediction), to_number(reference)
    if guess is not None and truth:
        return bool(np.isclose(guess, truth, rtol=tolerance, atol=0))
    return prediction.lower() == reference.lower()
