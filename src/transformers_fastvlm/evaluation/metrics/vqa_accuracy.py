# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""VQA accuracy as a metric module for `evaluate.load`: TextVQA's and VQAv2's."""

from statistics import mean

import datasets
import evaluate

from transformers_fastvlm.evaluation.images import pil_as_it_was

with pil_as_it_was():
    from lmms_eval.tasks._task_utils.vqa_eval_metric import EvalAIAnswerProcessor


class VqaAccuracy(evaluate.Metric):
    """Agreement with ten people's answers (arXiv 1505.00468, section 3): right in full where three gave the same."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="min(matching answers / 3, 1), averaged over all sets of people but one.",
            citation="arXiv 1505.00468",
            inputs_description=(
                "predictions: list of strings; no answer is an empty one. references: the list of people's "
                "answers for each."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(self, predictions: list[str | None], references: list[list[str]]) -> dict[str, float]:
        if not len(predictions):
            raise ValueError("There are no answers to score.")
        normalize = EvalAIAnswerProcessor()
        scores = [
            agreement(normalize(guess or ""), [normalize(answer) for answer in answers])
            for guess, answers in zip(predictions, references, strict=True)
        ]
        return {"vqa_accuracy": mean(scores)}


def agreement(prediction: str, answers: list[str]) -> float:
    """Of one normalized prediction with people's normalized answers, leaving each of them out in turn."""
    matches = [answer == prediction for answer in answers]
    return mean(min(1.0, (sum(matches) - is_match) / 3) for is_match in matches)
