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
    AutoProcessor,
)

# Without torchvision, transformers 5.16 has only a stand-in for it at its top level.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.utils import is_torchvision_available

from .configuration_fastvlm import FastViTHDConfig, FastVLMConfig, FastVlmUpstreamConfig, LlavaQwen2Config
from .image_processing_fastvlm import FastVLMImageProcessor
from .image_processing_pil_fastvlm import FastVLMImageProcessorPil
from .modeling_fastvithd import FastViTHDBackbone, FastViTHDModel
from .modeling_fastvlm import FastVLMForConditionalGeneration, FastVLMModel
from .processing_fastvlm import FastVLMProcessor


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
    image_processors: dict[str, type] = {"pil": FastVLMImageProcessorPil}
    if is_torchvision_available():
        image_processors["torchvision"] = FastVLMImageProcessor
    AutoImageProcessor.register(FastVLMConfig, image_processor_classes=image_processors, exist_ok=True)
    AutoProcessor.register(FastVLMConfig, FastVLMProcessor, exist_ok=True)
    # Modules that transformers replaces while importing lose attributes set on the module object before.
    for module in {id(module): module for module in (transformers, sys.modules["transformers"])}.values():
        if not hasattr(module, "AutoModelForVision2Seq"):
            module.AutoModelForVision2Seq = AutoModelForVision2Seq  # type: ignore[attr-defined]


def register_upstream() -> None:
    """Load `fast_vlm` checkpoints with this package's classes through the Auto classes, instead of transformers'."""
    AutoConfig.register(FastVlmUpstreamConfig.model_type, FastVlmUpstreamConfig, exist_ok=True)
