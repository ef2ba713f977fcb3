# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Loading on top of transformers' own: looks at the files' headers first, never fills gaps with random weights."""

import copy
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from transformers import PretrainedConfig
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME
from transformers.utils.quantization_config import QuantizationConfigMixin

from .checkpoint_files import hub_arguments, hub_file, read_json_object, tensor_headers, weight_files
from .checkpoint_formats import has_training_form
from .parts import Part, module_names

# What weights of few bits would cost most where they save least; quantizing it is the user's choice.
SPARED_PARTS: tuple[Part, ...] = ("encoder", "projector", "head")
# Constants that older versions of transformers stored, and that are computed.
_HARMLESS = (r"\.rotary_emb\.inv_freq$", r"\.position_ids$", r"\.attn\.(masked_)?bias$")
_WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")  # as safetensors calls them


class CheckpointLoadingMixin:
    """`from_pretrained` for any FastVLM checkpoint. Goes before `PreTrainedModel` among the bases.

    Attributes:
        known_strangers: patterns of stored tensors that a class leaves out on purpose.
    """

    known_strangers: tuple[str, ...] = ()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *model_args,
        config: PretrainedConfig | str | os.PathLike | None = None,
        reparameterize: bool = False,
        **kwargs,
    ):
        """
        Load an own, original or upstream checkpoint, from a folder or the Hub. Remote code in it is never run.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): folder or Hub id.
            config (*optional*): as for any model of transformers.
            reparameterize (`bool`, defaults to `False`): turn an encoder stored in the multi-branch training form into
                the faster inference form. Without it, the encoder keeps the form it is stored in.
            **kwargs: as for any model of transformers (`dtype`, `device_map`, `quantization_config`, ...). Weights are
                read from safetensors files unless `use_safetensors=False` is given. A `quantization_config` without a
                list of modules to skip spares encoder, projector and head.

        Raises:
            ValueError: if a tensor that the model needs is missing, misshapen, truncated or of integers, if a stored
                one has no place in it, or if a file is damaged; the message names it. With
                `output_loading_info=True`, missing tensors and those without a place are only listed there.
        """
        files: list[str] = []
        is_loaded = pretrained_model_name_or_path is not None and kwargs.get("gguf_file") is None
        if is_loaded:
            assert pretrained_model_name_or_path is not None
            for name in (CONFIG_NAME, GENERATION_CONFIG_NAME):  # damaged, the latter would count as missing
                if path := hub_file(pretrained_model_name_or_path, name, kwargs):
                    read_json_object(path)
            kwargs.setdefault("use_safetensors", True)
            files = weight_files(pretrained_model_name_or_path, kwargs) if kwargs["use_safetensors"] else []
        headers = {name: entry for path in files for name, entry in tensor_headers(path).items()}
        names = set(headers)
        if names:
            config = cls._fit_config_to_tensors(pretrained_model_name_or_path, config, names, kwargs)
        if getattr(config, "quantization_config", None) is None:
            _raise_on_integer_weights(headers, cls.known_strangers, pretrained_model_name_or_path)
        if kwargs.get("quantization_config") is not None:
            kwargs["quantization_config"] = _spare_parts(kwargs["quantization_config"])
        return_info = kwargs.pop("output_loading_info", False)
        # Refused below with the tensors' names and shapes, which transformers only logs.
        refuse_misshapen = not kwargs.pop("ignore_mismatched_sizes", False)
        kwargs |= {"config": config, "output_loading_info": True, "ignore_mismatched_sizes": True}
        model, info = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)  # type: ignore[misc]
        if refuse_misshapen and info["mismatched_keys"]:
            _raise_on_misshapen(model, info["mismatched_keys"], pretrained_model_name_or_path)
        if is_loaded and not return_info:  # who asks for the information decides on it
            _raise_on_missing(model, info["missing_keys"], names, pretrained_model_name_or_path)
            _raise_on_unexpected(model, info["unexpected_keys"], pretrained_model_name_or_path)
        _keep_4bit_weights_as_stored(model)
        if reparameterize:
            model.reparameterize()
        return (model, info) if return_info else model

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """As for any model of transformers, under our own names whatever names the weights were loaded by."""
        # What a quantizer did while loading cannot be undone for another format.
        kwargs.setdefault("save_original_format", getattr(self, "hf_quantizer", None) is None)
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def _fit_config_to_tensors(cls, source, config, names: set[str], kwargs: dict[str, Any]):
        """The configuration, with what only tensor names tell: the encoder's form, and whether `lm_head` is tied.

        Takes the arguments meant for the configuration out of `kwargs`.
        """
        if isinstance(config, PretrainedConfig):
            config = copy.deepcopy(config)
        else:
            for_model = ("attn_implementation", "dtype", "quantization_config", "torch_dtype")
            kept = {key: kwargs.pop(key) for key in for_model if key in kwargs}
            where = hub_arguments(kwargs)
            config, unused = cls.config_class.from_pretrained(  # type: ignore[attr-defined]
                config or source, return_unused_kwargs=True, **kwargs
            )
            kwargs.clear()
            kwargs.update(unused | where | kept)
        vision_config = getattr(config, "vision_config", config)
        vision_config.reparameterized = not has_training_form(names)
        if config is not vision_config and "lm_head.weight" in names:
            config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
        return config


def _spare_parts(given: QuantizationConfigMixin | dict[str, Any]) -> QuantizationConfigMixin:
    """The configuration, with the parts to spare where it leaves that open."""
    config = AutoQuantizationConfig.from_dict(given) if isinstance(given, dict) else copy.deepcopy(given)
    for name in ("llm_int8_skip_modules", "modules_to_not_convert"):  # bitsandbytes' name, and all others'
        if getattr(config, name, ()) is None:
            setattr(config, name, modules_to_spare())
    return config


def modules_to_spare(parts: Iterable[Part] = SPARED_PARTS) -> list[str]:
    """What a `quantization_config` has to list for these parts to stay in full precision.

    Full names, because bitsandbytes matches them from their start, and the head's among them, because any list takes
    the place of its own, which has that.
    """
    return [name for part in parts for name in module_names(part)]


def _keep_4bit_weights_as_stored(model: nn.Module) -> None:
    """Have bitsandbytes compute with 4-bit weights in the layout that they are stored in.

    On CPUs with AVX512-BF16, its first forward pass in eval mode repacks them for a faster kernel, and every
    `state_dict()` packs them back without restoring their scales: what is saved from then on is corrupt, and so is the
    model in memory, adapters' checkpoints included (bitsandbytes 0.50.2, `_convert_weight_packed_for_cpu_inverse`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _raise_on_integer_weights(headers: Mapping[str, Mapping[str, Any]], known_strangers, source) -> None:
    """Raise if weights are stored in a dtype that only quantized ones have: without their scales they mean nothing."""
    strangers = re.compile("|".join([*_HARMLESS, *known_strangers, r"\.num_batches_tracked$"]))
    odd = {name: entry["dtype"] for name, entry in headers.items() if entry["dtype"] not in _WEIGHT_DTYPES}
    if listed := sorted(f"{name} ({dtype})" for name, dtype in odd.items() if not strangers.search(name)):
        raise ValueError(
            f"{source} stores weights that are no floating-point numbers, but its configuration has no "
            f"`quantization_config` that says what they mean: {_some(listed)}."
        )


def _raise_on_misshapen(model, mismatched: Iterable[tuple], source) -> None:
    listed = "; ".join(
        f"{name} is {tuple(stored)} and should be {tuple(needed)}" for name, stored, needed in sorted(mismatched)
    )
    raise ValueError(f"{source} does not fit this configuration of {type(model).__name__}: {listed}.")


def _raise_on_missing(model, missing: Iterable[str], names: set[str], source) -> None:
    """Raise if the checkpoint lacks tensors that it should have; a base model's may lack what only the head has."""
    prefix = f"{model.base_model_prefix}."
    has_head = model.base_model is not model
    if has_head and not any(name.startswith(prefix) for name in names):
        missing = [name for name in missing if name.startswith(prefix)]
    if missing := sorted(missing):
        raise ValueError(f"{source} lacks tensors that {type(model).__name__} needs: {_some(missing)}.")


def _raise_on_unexpected(model, unexpected: Iterable[str], source) -> None:
    """Raise if the checkpoint has tensors that the model has no place for, but for those known to mean nothing."""
    harmless = re.compile("|".join([*_HARMLESS, *model.known_strangers]))
    if strangers := sorted(name for name in unexpected if not harmless.search(name)):
        raise ValueError(
            f"{source} has tensors that {type(model).__name__} has no place for: {_some(strangers)}. Without them it "
            "would be another model: its configuration does not fit its weights."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
