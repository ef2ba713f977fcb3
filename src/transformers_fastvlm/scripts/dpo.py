# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning on preferences: TRL's arguments and trainer with what `finetune_lora` adds. Imports TRL."""

from dataclasses import dataclass, field

from trl import DPOConfig, DPOTrainer

from ..training import EvaluatesAnswers
from .sft import FinetuneDefaults


@dataclass
class DpoArguments(FinetuneDefaults, DPOConfig):
    """TRL's arguments with these defaults, and transformers' where TRL takes a GPU for granted."""

    bf16: bool | None = False  # type: ignore[assignment]
    gradient_checkpointing: bool = False
    # The rows have an option of that name, which cuts through no image.
    max_length: int | None = field(default=None, init=False)


class AnsweringDpoTrainer(EvaluatesAnswers, DPOTrainer):
    """`DPOTrainer` whose evaluations may have the metric of answers."""
