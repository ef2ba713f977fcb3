# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The tensors of a checkpoint as its files hold them, without loading it."""

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from .. import FastVLMConfig, FastVLMForConditionalGeneration
from ..checkpoint_formats import has_training_form
from ..parts import part_of

# By their names in safetensors files.
FLOAT_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# What quantized weights are stored as: torchao's parts, and bitsandbytes' scales beside them.
_QUANTIZED_PART = re.compile(r"(?P<module>.+)\.(?:_weight_\w+|weight\.[\w.]+|SCB|weight_format)")


@dataclass(frozen=True)
class StoredTensor:
    """
    Args:
        file: safetensors file.
        name: in that file.
        dtype: by its name in safetensors files, such as `"BF16"`.
        shape: as stored.
    """

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]


# By name; several where the model has as one what a file has in parts.
StoredTensors = dict[str, list[StoredTensor]]


def tensors_of(files: Iterable[str | Path]) -> StoredTensors:
    """What safetensors files hold, by its names there."""
    found: StoredTensors = {}
    for path in map(str, files):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                tensor = StoredTensor(path, name, part.get_dtype(), tuple(part.get_shape()))
                found.setdefault(name, []).append(tensor)
    return found


def stored_tensors(files: Iterable[str | Path], config: FastVLMConfig) -> StoredTensors:
    """The tensors in the files of a checkpoint of any layout, by the names that our model has for them."""
    stored = tensors_of(files)
    rename = _renaming(config, stored)
    found: StoredTensors = {}
    for name, parts in stored.items():
        found.setdefault(rename(name), []).extend(parts)
    return found


def _renaming(config: FastVLMConfig, names: Iterable[str]) -> Callable[[str], str]:
    """As loading renames a checkpoint's tensors."""
    config = copy.deepcopy(config)
    config.vision_config.reparameterized = not has_training_form(names)
    with torch.device("meta"):
        model = FastVLMForConditionalGeneration(config)
    transforms = get_model_conversion_mapping(model)
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    known = model.state_dict()
    return lambda name: rename_source_key(name, renamings, converters, model.base_model_prefix, known)[0]


def quantized_weight(name: str) -> str | None:
    """The weight that a tensor is a part of, where it belongs to a quantized one."""
    part = _QUANTIZED_PART.fullmatch(name)
    return f"{part['module']}.weight" if part else None


def lossless_dtype(tensors: StoredTensors) -> torch.dtype | None:
    """The narrowest dtype that a model can be loaded in without rounding any of its stored weights.

    `None` if there are no floating-point weights. A model in float16 has its encoder in float32 anyway.
    """
    encoder: list[torch.dtype] = []
    others: list[torch.dtype] = []
    for name, parts in tensors.items():
        if not quantized_weight(name):
            dtypes = [FLOAT_DTYPES[tensor.dtype] for tensor in parts if tensor.dtype in FLOAT_DTYPES]
            (encoder if part_of(name) == "encoder" else others).extend(dtypes)
    narrowest = _widest(others)
    if narrowest is torch.float16 and _widest(encoder) is not torch.float64:
        return narrowest
    return _widest([*others, *encoder])


def _widest(dtypes: list[torch.dtype]) -> torch.dtype | None:
    if not dtypes:
        return None
    widest = dtypes[0]
    for dtype in dtypes:
        widest = torch.promote_types(widest, dtype)
    return widest


@torch.no_grad()
def store_as(model: torch.nn.Module, tensors: StoredTensors) -> None:
    """Give every weight the dtype that it is stored in, where the model was loaded in a wider one.

    The model is then to be saved, not to be run: its layers may be of different dtypes.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        dtypes = {FLOAT_DTYPES.get(part.dtype) for part in tensors.get(name, [])}
        if len(dtypes) == 1 and (dtype := dtypes.pop()) is not None and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
