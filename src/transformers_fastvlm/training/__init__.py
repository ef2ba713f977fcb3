# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: what transformers, PEFT and datasets leave to the model's authors."""

from .arguments import DataArguments
from .build import build_vlm
from .card import write_adapter_card
from .checkpoints import last_whole_checkpoint, remove_cut_off_checkpoints, train
from .collator import FastVLMDataCollator
from .data import MissingColumnError, RowReport, load_chat_dataset, prepare_dataset, recognised_layout
from .layouts import RowError
from .lora import lora_target_modules
from .memory import explained_out_of_memory
from .parameters import PARTS, parameter_groups, train_only
from .row_images import ImageAccess
from .rows import RowFormat
from .stages import STAGES, TrainingStage

__all__ = [
    "PARTS",
    "STAGES",
    "DataArguments",
    "FastVLMDataCollator",
    "ImageAccess",
    "MissingColumnError",
    "RowError",
    "RowFormat",
    "RowReport",
    "TrainingStage",
    "build_vlm",
    "explained_out_of_memory",
    "last_whole_checkpoint",
    "load_chat_dataset",
    "lora_target_modules",
    "parameter_groups",
    "prepare_dataset",
    "recognised_layout",
    "remove_cut_off_checkpoints",
    "train",
    "train_only",
    "write_adapter_card",
]
