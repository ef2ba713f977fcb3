# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM as a first-class Transformers model. Importing this package registers it with the Auto classes."""

from importlib.metadata import version

from .auto import AutoModelForVision2Seq, register, register_upstream
from .configuration_fastvlm import FASTVITHD_FAMILY, FastViTHDConfig, FastVLMConfig
from .image_processing_fastvlm import FastVLMImageProcessor
from .image_processing_pil_fastvlm import FastVLMImageProcessorPil
from .modeling_fastvithd import FastViTHDBackbone, FastViTHDModel
from .modeling_fastvlm import FastVLMForConditionalGeneration, FastVLMModel
from .processing_fastvlm import FastVLMProcessor

register()

__version__ = version("transformers-fastvlm")

__all__ = [
    "FASTVITHD_FAMILY",
    "AutoModelForVision2Seq",
    "FastVLMConfig",
    "FastVLMForConditionalGeneration",
    "FastVLMImageProcessor",
    "FastVLMImageProcessorPil",
    "FastVLMModel",
    "FastVLMProcessor",
    "FastViTHDBackbone",
    "FastViTHDConfig",
    "FastViTHDModel",
    "__version__",
    "register_upstream",
]
