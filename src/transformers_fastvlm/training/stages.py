# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The paper's training stages (FastVLM, arXiv 2412.13303, section 4 and the appendix's table of hyperparameters)."""

from dataclasses import dataclass

from ..parts import Part
from .parameters import PARTS


@dataclass(frozen=True)
class TrainingStage:
    """One stage, one epoch of AdamW with a cosine schedule.

    Args:
        trains: the parts of the model that train; the others stay as they are.
        learning_rate: peak.
        batch_size: examples per step, of all processes and accumulated ones together.
        resolution: side of the images in pixels.
        data: what the paper trains on.
        warmup_ratio: share of the steps over which the rate rises.
        weight_decay: of matrices.
    """

    trains: tuple[Part, ...]
    learning_rate: float
    batch_size: int
    resolution: int
    data: str
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0


STAGES: dict[str, TrainingStage] = {
    "1": TrainingStage(("projector",), 1e-3, 256, 1024, "LLaVA-558K captions"),
    "1.5": TrainingStage(PARTS, 2e-5, 128, 1024, "15 M recaptioned images of CC3M and CC12M"),
    "2": TrainingStage(PARTS, 2e-5, 128, 1024, "1.1 M to 12.5 M visual instructions"),
    "3": TrainingStage(PARTS, 2e-5, 128, 1024, "10.6 M single-image examples of MammothVL"),
}
