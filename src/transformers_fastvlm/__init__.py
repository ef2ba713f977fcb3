# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM as a first-class Transformers model. Importing this package registers it with the Auto classes."""

from .auto import AutoModelForVision2Seq, register, register_upstream
from .configuration_fastvlm import FastViTHDConfig, FastVLMConfig
from .modeling_fastvithd import FastViTHDBackbone, FastViTHDModel
from .modeling_fastvlm import FastVLMForConditionalGeneration, FastVLMModel

register()

__all__ = [
    "AutoModelForVision2Seq",
    "FastVLMConfig",
    "FastVLMForConditionalGeneration",
    "FastVLMModel",
    "FastViTHDBackbone",
    "FastViTHDConfig",
    "FastViTHDModel",
    "register_upstream",
]
