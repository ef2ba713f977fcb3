# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Registration with transformers' Auto classes, done when the package is imported."""

import sys
from types import ModuleType

from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
)

# Without torchvision, transformers 5.16 has only a stand-in for it at its top level.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)
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
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForCausalLM):
        auto_class.register(FastVLMConfig, FastVLMForConditionalGeneration, exist_ok=True)
    # Pipelines look classes up by their names here, and warn of others.
    for names in (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES):
        names[FastVLMConfig.model_type] = FastVLMForConditionalGeneration.__name__
    image_processors: dict[str, type] = {"pil": FastVLMImageProcessorPil}
    if is_torchvision_available():
        image_processors["torchvision"] = FastVLMImageProcessor
    AutoImageProcessor.register(FastVLMConfig, image_processor_classes=image_processors, exist_ok=True)
    AutoProcessor.register(FastVLMConfig, FastVLMProcessor, exist_ok=True)
    lazy_module = type(sys.modules["transformers"])
    if lazy_module is not ModuleType:
        lazy_module.AutoModelForVision2Seq = _OfTransformersAlone()  # type: ignore[attr-defined]


class _OfTransformersAlone:
    """`transformers.AutoModelForVision2Seq`, on every module object of that name.

    transformers makes a second one while it is imported, and whoever imported it before keeps the first. Both are of
    one class, as are its subpackages.
    """

    def __get__(self, module: ModuleType | None, owner: type) -> type[AutoModelForVision2Seq]:
        if module is None or module.__name__ != "transformers":
            raise AttributeError("AutoModelForVision2Seq")
        return AutoModelForVision2Seq


def register_upstream() -> None:
    """Load `fast_vlm` checkpoints with this package's classes through the Auto classes, instead of transformers'."""
    AutoConfig.register(FastVlmUpstreamConfig.model_type, FastVlmUpstreamConfig, exist_ok=True)
