# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What is known of tasks beforehand: the names of their data and metrics, and the original's scores."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownTask:
    """
    Args:
        dataset_name: as people call it.
        metric: the one that papers report, as lmms-eval names it.
        card: the original's score in percent by size of its decoder, from the table on the authors' model card
            (https://huggingface.co/apple/FastVLM-0.5B), empty if it is not there.
    """

    dataset_name: str
    metric: str
    card: dict[str, float]


def _card(*scores: float) -> dict[str, float]:
    return dict(zip(("0.5B", "1.5B", "7B"), scores, strict=True))


KNOWN_TASKS = {
    "ai2d": KnownTask("AI2D", "exact_match", _card(68.0, 77.4, 83.6)),
    "scienceqa_img": KnownTask("ScienceQA", "exact_match", _card(85.2, 94.4, 96.7)),
    "mmmu_val": KnownTask("MMMU", "mmmu_acc", _card(33.9, 37.8, 45.4)),
    "vqav2_val": KnownTask("VQAv2", "exact_match", _card(76.3, 79.1, 80.8)),
    "chartqa": KnownTask("ChartQA", "relaxed_overall", _card(76.0, 80.1, 85.0)),
    "textvqa_val": KnownTask("TextVQA", "exact_match", _card(64.5, 70.4, 74.9)),
    "infovqa_val": KnownTask("InfoVQA", "anls", _card(46.4, 59.7, 75.8)),
    "docvqa_val": KnownTask("DocVQA", "anls", _card(82.5, 88.3, 93.2)),
    "ocrbench": KnownTask("OCRBench", "ocrbench_accuracy", _card(63.9, 70.2, 73.1)),
    "realworldqa": KnownTask("RealWorldQA", "exact_match", _card(56.1, 61.2, 67.2)),
    "seedbench": KnownTask("SeedBench-Img", "seed_image", _card(71.0, 74.2, 75.4)),
}

METRIC_NAMES = {
    "acc": "Accuracy",
    "anls": "ANLS",
    "exact_match": "Exact match",
    "mmmu_acc": "Accuracy",
    "ocrbench_accuracy": "Accuracy",
    "relaxed_overall": "Relaxed accuracy",
    "seed_image": "Accuracy, images",
    "vqa_accuracy": "VQA accuracy",
}
