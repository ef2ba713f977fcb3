# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Loading a model as it is to run: in a dtype, quantized, with an adapter, on a device."""

import os
from typing import Any

import torch

from ..extras import require
from ..modeling_fastvlm import FastVLMForConditionalGeneration
from ..processing_fastvlm import FastVLMProcessor
from ..quantization import quantization_config
from .model_options import ModelOptions


def load_model(
    pretrained: str | os.PathLike,
    adapter: str | os.PathLike | None = None,
    quantization: Any = None,
    dtype: str | torch.dtype = "auto",
    device: torch.device | str | None = None,
    **adapter_options: Any,
) -> Any:
    """
    The model of an own, original or upstream checkpoint, in eval mode.

    Args:
        pretrained: the checkpoint's folder or Hub id.
        adapter: folder or Hub id of a PEFT adapter to put on it.
        quantization: a scheme of [`quantization_config`], such as `"nf4"`, or a `quantization_config`.
        dtype: of the weights that are not quantized; `"auto"` is the checkpoint's.
        device: by default, where transformers puts it: the CPU, and quantized weights on a GPU if there is one.
        **adapter_options: of `PeftModel.from_pretrained`.

    Returns:
        a `FastVLMForConditionalGeneration`; with an adapter, the `PeftModel` around it.

    Raises:
        MissingLibraryError: if there is an adapter and PEFT is not installed, or the quantization's library is not.
        ImportError, OSError, ValueError: as `from_pretrained` and `quantization_config` do.
    """
    if isinstance(quantization, str):
        quantization = quantization_config(quantization)  # type: ignore[arg-type]
    placement: dict[str, Any] = {}
    if quantization is not None:
        placement = {"quantization_config": quantization} | ({"device_map": {"": device}} if device else {})
    model: Any = FastVLMForConditionalGeneration.from_pretrained(pretrained, dtype=dtype, **placement)
    if quantization is None and device:
        model = model.to(device)
    if adapter is not None:
        require(["peft"], "train", "An adapter")
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter, **adapter_options)
    return model.eval()


def load(options: ModelOptions, device: torch.device | str = "cpu") -> tuple[Any, Any]:
    """
    The model, in eval mode on `device`, and its processor, with these options.

    Raises:
        ImportError, OSError, ValueError: as [`load_model`] does.
    """
    size: dict[str, Any] = {} if options.resolution is None else {"size": options.resolution}
    processor = FastVLMProcessor.from_pretrained(options.pretrained, **size)
    model = load_model(options.pretrained, options.adapter, options.quantization, options.dtype, device)
    without_adapter = base_of(model)
    if options.static_cache:
        without_adapter.generation_config.cache_implementation = "static"
    if options.compiled:
        without_adapter.model.vision_tower.compile()
    return model, processor


def base_of(model: Any) -> Any:
    """The FastVLM inside a `PeftModel`; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


__all__ = ["base_of", "load", "load_model"]
