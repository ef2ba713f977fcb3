# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Registration with transformers' Auto classes, done when the package is imported."""

import sys

import transformers
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)
from transformers.conversion_mapping import register_checkpoint_conversion_mapping

from .checkpoint_formats import encoder_renamings, model_renamings
from .configuration_fastvlm import FastViTHDConfig, FastVLMConfig, FastVlmUpstreamConfig, LlavaQwen2Config
from .modeling_fastvithd import FastViTHDBackbone, FastViTHDModel
from .modeling_fastvlm import FastVLMForConditionalGeneration, FastVLMModel


class AutoModelForVision2Seq(AutoModelForImageTextToText):
    """The name that [`~transformers.AutoModelForImageTextToText`] had in transformers 4."""


def register() -> None:
    """Make the Auto classes know FastVLM's configurations, models and processors. Safe to call again."""
    for config_class in (FastVLMConfig, FastViTHDConfig, LlavaQwen2Config):
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(FastVLMConfig, FastVLMModel, exist_ok=True)
    AutoModel.register(FastViTHDConfig, FastViTHDModel, exist_ok=True)
    AutoBackbone.register(FastViTHDConfig, FastViTHDBackbone, exist_ok=True)
    AutoModelForImageTextToText.register(FastVLMConfig, FastVLMForConditionalGeneration, exist_ok=True)
    AutoModelForCausalLM.register(FastVLMConfig, FastVLMForConditionalGeneration, exist_ok=True)
    register_checkpoint_conversion_mapping(FastVLMConfig.model_type, model_renamings(), overwrite=True)
    register_checkpoint_conversion_mapping(FastViTHDConfig.model_type, encoder_renamings(), overwrite=True)
    # Modules that transformers replaces while importing lose attributes set on the module object before.
    for module in {id(module): module for module in (transformers, sys.modules["transformers"])}.values():
        if not hasattr(module, "AutoModelForVision2Seq"):
            module.AutoModelForVision2Seq = AutoModelForVision2Seq  # type: ignore[attr-defined]


def register_upstream() -> None:
    """Load `fast_vlm` checkpoints with this package's classes through the Auto classes, instead of transformers'."""
    AutoConfig.register(FastVlmUpstreamConfig.model_type, FastVlmUpstreamConfig, exist_ok=True)
