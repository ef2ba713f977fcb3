# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning on answers: transformers' arguments and trainer with what `finetune_lora` adds."""

from dataclasses import dataclass, field

import torch
from transformers import Trainer, TrainingArguments

from ..training import EvaluatesAnswers

LEARNING_RATES = {"lora": 2e-4, "full": 2e-5, "dpo": 1e-5}


@dataclass
class FinetuneDefaults:
    """What fine-tuning wants where `TrainingArguments` has other defaults."""

    output_dir: str = "adapter"
    learning_rate: float | None = field(default=None, metadata={"help": f"default by method: {LEARNING_RATES}"})
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.03
    num_train_epochs: float = 1
    logging_steps: float = 10
    eval_strategy: str = "steps"
    eval_steps: float | None = 100
    save_steps: float = 100
    save_total_limit: int | None = 2
    report_to: str | None = "none"
    remove_unused_columns: bool = False  # the collator reads them
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])
    # Of streams, every process collates its own batches: images cannot be cut by rows.
    accelerator_config: dict | str | None = field(default_factory=lambda: {"dispatch_batches": False})

    def __post_init__(self):
        if self.bf16 and not torch.accelerator.is_available():  # type: ignore[attr-defined]
            self.use_cpu = True  # which transformers wants to be told
        self.names_best_metric = self.metric_for_best_model is not None  # type: ignore[attr-defined]
        super().__post_init__()  # type: ignore[misc]


@dataclass
class SftArguments(FinetuneDefaults, TrainingArguments):
    """transformers' arguments with these defaults."""


class AnsweringTrainer(EvaluatesAnswers, Trainer):
    """`Trainer` whose evaluations may have the metric of answers."""
