# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Loading what is published: the model in its variant, an adapter on it or merged into it, the processor."""

import tempfile
from collections.abc import Set
from typing import Any

import torch
from transformers import AutoProcessor

from .. import FastVLMProcessor
from ..inference.model_loading import load_model as load_checkpoint
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
            return _load_quantized(source, variant)
        dtype = _DTYPES.get(variant or "", source.dtype)
        if source.adapter is None:
            return load_checkpoint(source.model.folder, dtype=dtype)
        stored = source.adapter_tensors.keys()
        # PEFT keeps adapters of 16 bits in float32 unless told otherwise, and would store that.
        in_float32 = variant is None or not keep_adapter
        model = load_checkpoint(
            source.model.folder, source.adapter.folder, dtype=dtype, autocast_adapter_dtype=in_float32
        )
        _require_whole_adapter(model, stored, source)
        return model if keep_adapter else model.merge_and_unload(safe_merge=True).eval()


def _require_whole_adapter(model: Any, stored: Set[str], source: CheckpointSource) -> None:
    """PEFT leaves out tensors that the model has no place for, and makes up those that are missing."""
    from peft import get_peft_model_state_dict

    needed = get_peft_model_state_dict(model).keys()
    for what, names in (("has tensors that its base has no place for", stored - needed), ("lacks", needed - stored)):
        if names:
            raise PublishError(f"{source.location} {what}: {', '.join(sorted(names)[:10])}.")


def _load_quantized(source: CheckpointSource, variant: str) -> Any:
    if source.adapter is None:
        return load_checkpoint(source.model.folder, dtype=source.dtype, quantization=variant)
    # Merged before it is rounded: an adapter merged into 4-bit weights would be rounded away.
    with tempfile.TemporaryDirectory() as merged:
        load_model(source, None).save_pretrained(merged)
        return load_checkpoint(merged, dtype=source.dtype, quantization=variant)
