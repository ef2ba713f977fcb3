# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Loading what is published: the model in its variant, an adapter on it or merged into it, the processor."""

import tempfile
from typing import Any

import torch
from transformers import AutoProcessor

from .. import AutoModelForVision2Seq, FastVLMProcessor
from ..quantization import quantization_config
from .checkpoint_source import CheckpointSource
from .errors import PublishError, told_as
from .publish_settings import QUANTIZED_VARIANTS, Variant

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def load_processor(source: CheckpointSource) -> FastVLMProcessor:
    """
    The adapter's own, if it has one, else the model's.

    Raises:
        PublishError: if it cannot be loaded.
    """
    with told_as(f"The processor of {source.processor.location} cannot be loaded"):
        return AutoProcessor.from_pretrained(source.processor.folder)


def load_model(source: CheckpointSource, variant: Variant | None, keep_adapter: bool = False) -> Any:
    """
    The model in eval mode, in the dtype or quantization of the variant.

    Args:
        keep_adapter: return a `PeftModel`, not the model with the adapter merged into it.

    Raises:
        PublishError: if it cannot be loaded.
    """
    with told_as(f"{source.location} cannot be loaded"):
        if variant in QUANTIZED_VARIANTS:
            return _load_quantized(source, variant).eval()
        dtype = _DTYPES.get(variant or "", source.dtype)
        model: Any = AutoModelForVision2Seq.from_pretrained(source.model.folder, dtype=dtype)
        if source.adapter is not None:
            model = _adapted(model, source, in_float32=variant is None or not keep_adapter)
            if not keep_adapter:
                model = model.merge_and_unload(safe_merge=True)
        return model.eval()


def _adapted(model: Any, source: CheckpointSource, in_float32: bool) -> Any:
    """The model with the adapter on it; PEFT keeps adapters of 16 bits in float32 unless told otherwise."""
    from peft import PeftModel, get_peft_model_state_dict

    assert source.adapter is not None
    stored = source.adapter_tensors.keys()
    model = PeftModel.from_pretrained(model, source.adapter.folder, autocast_adapter_dtype=in_float32)
    needed = get_peft_model_state_dict(model).keys()
    # PEFT leaves out tensors that the model has no place for, and makes up those that are missing.
    for what, names in (("has tensors that its base has no place for", stored - needed), ("lacks", needed - stored)):
        if names:
            raise PublishError(f"{source.location} {what}: {', '.join(sorted(names)[:10])}.")
    return model


def _load_quantized(source: CheckpointSource, variant: str) -> Any:
    options: dict[str, Any] = {"dtype": source.dtype, "quantization_config": quantization_config(variant)}  # type: ignore[arg-type]
    if source.adapter is None:
        return AutoModelForVision2Seq.from_pretrained(source.model.folder, **options)
    # Merged before it is rounded: an adapter merged into 4-bit weights would be rounded away.
    with tempfile.TemporaryDirectory() as merged:
        load_model(source, None).save_pretrained(merged)
        return AutoModelForVision2Seq.from_pretrained(merged, **options)
