# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: what transformers, PEFT and datasets leave to the model's authors."""

from .answer_evaluation import AnswerEvaluation, EvaluatesAnswers
from .arguments import DataArguments
from .build import build_vlm
from .card import TrainingFacts, write_adapter_card
from .checkpoints import last_whole_checkpoint, remove_cut_off_checkpoints, train
from .collator import FastVLMDataCollator, require_isolation
from .data import MissingColumnError, RowReport, load_chat_dataset, prepare_dataset, recognised_layout
from .image_features import ImageFeatures
from .layouts import RowError
from .lora import lora_target_modules
from .memory import explained_out_of_memory
from .parameters import PARTS, parameter_groups, train_only
from .preferences import PreferenceCollator
from .recipes import parse_with_recipe, with_recipe
from .row_images import ImageAccess
from .row_questions import RowAnswer, answer_questions
from .rows import RowFormat
from .trl_rows import rows_for_trl

__all__ = [
    "PARTS",
    "AnswerEvaluation",
    "DataArguments",
    "EvaluatesAnswers",
    "FastVLMDataCollator",
    "ImageAccess",
    "ImageFeatures",
    "MissingColumnError",
    "PreferenceCollator",
    "RowAnswer",
    "RowError",
    "RowFormat",
    "RowReport",
    "TrainingFacts",
    "answer_questions",
    "build_vlm",
    "explained_out_of_memory",
    "last_whole_checkpoint",
    "load_chat_dataset",
    "lora_target_modules",
    "parameter_groups",
    "parse_with_recipe",
    "prepare_dataset",
    "recognised_layout",
    "remove_cut_off_checkpoints",
    "require_isolation",
    "rows_for_trl",
    "train",
    "train_only",
    "with_recipe",
    "write_adapter_card",
]
