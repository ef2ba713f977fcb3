# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Loading on top of transformers' own: looks at the files' headers first, never fills gaps with random weights."""

import copy
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from transformers import PretrainedConfig
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.quantization_config import QuantizationConfigMixin

from .checkpoint_formats import DEFAULT_IMAGE_TOKEN_ID, FOREIGN_FORMATS, IMAGE_TOKEN, has_training_form

# What weights of few bits would cost most where they save least; quantizing it is the user's choice. Full names, as in
# the VLM and as in the model without head: bitsandbytes matches them from their start, and any list takes the place of
# its own, which has `lm_head`.
SPARED_PARTS = {
    "encoder": ("model.vision_tower", "vision_tower"),
    "projector": ("model.multi_modal_projector", "multi_modal_projector"),
    "head": ("lm_head",),
}
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def hub_file(source: str | os.PathLike, name: str, arguments: Mapping[str, Any] | None = None) -> str | None:
    """Local path of a file of a folder or Hub repository, `None` if there is no such file."""
    arguments = arguments or {}
    hub_arguments = {key: arguments[key] for key in HUB_ARGUMENTS if arguments.get(key) is not None}
    return cached_file(
        source,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **hub_arguments,
    )


def weight_files(source: str | os.PathLike, arguments: Mapping[str, Any] | None = None) -> list[str]:
    """Safetensors files of a checkpoint, in the order of its index; empty if it has none.

    Raises:
        FileNotFoundError: if the index lists a file that is not there.
    """
    arguments = arguments or {}
    variant = f".{arguments['variant']}" if arguments.get("variant") else ""
    single = hub_file(source, SAFE_WEIGHTS_NAME.replace(".safetensors", f"{variant}.safetensors"), arguments)
    if single is not None:
        return [single]
    index = hub_file(source, SAFE_WEIGHTS_INDEX_NAME.replace(".index.json", f"{variant}.index.json"), arguments)
    if index is None:
        return []
    with open(index, encoding="utf-8") as file:
        names = dict.fromkeys(json.load(file)["weight_map"].values())
    files = []
    for name in names:
        path = hub_file(source, name, arguments)
        if path is None:
            raise FileNotFoundError(f"{source} lacks {name}, which its {os.path.basename(index)} lists.")
        files.append(path)
    return files


def source_format(source: str | os.PathLike, arguments: Mapping[str, Any] | None = None) -> str:
    """The layout of a checkpoint, by its configuration: "original", "upstream" or "own"."""
    arguments = arguments or {}
    hub_arguments = {key: arguments[key] for key in HUB_ARGUMENTS if arguments.get(key) is not None}
    config, _ = PretrainedConfig.get_config_dict(source, **hub_arguments)
    return FOREIGN_FORMATS.get(config.get("model_type", ""), "own")


def tensor_names(path: str | os.PathLike) -> Iterator[str]:
    """Names of the tensors in a safetensors file, from its header alone.

    Raises:
        ValueError: if the file ends before its header or before one of its tensors, which the message names.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if size < 8 or header_size > size - 8:
            raise ValueError(f"{path} is truncated: it has {size} bytes and ends within its header.")
        try:
            header = json.loads(file.read(header_size))
        except ValueError as error:
            raise ValueError(f"{path} is no safetensors file: its header is damaged.") from error
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if 8 + header_size + entry["data_offsets"][1] > size:
            raise ValueError(f"{path} is truncated: it has {size} bytes and ends before the whole of tensor {name!r}.")
        yield name


class CheckpointLoadingMixin:
    """`from_pretrained` for any FastVLM checkpoint. Goes before `PreTrainedModel` among the bases."""

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
            ValueError: if a tensor that the model needs is missing, misshapen or truncated; the message names it. With
                `output_loading_info=True`, missing ones are only listed there.
        """
        files: list[str] = []
        if pretrained_model_name_or_path is not None and kwargs.get("gguf_file") is None:
            kwargs.setdefault("use_safetensors", True)
            files = weight_files(pretrained_model_name_or_path, kwargs) if kwargs["use_safetensors"] else []
        names = {name for path in files for name in tensor_names(path)}
        if names:
            config = cls._fit_config_to_tensors(pretrained_model_name_or_path, config, names, kwargs)
        if kwargs.get("quantization_config") is not None:
            kwargs["quantization_config"] = _spare_parts(kwargs["quantization_config"])
        return_info = kwargs.pop("output_loading_info", False)
        # Refused below with the tensors' names and shapes, which transformers only logs.
        refuse_misshapen = not kwargs.pop("ignore_mismatched_sizes", False)
        kwargs |= {"config": config, "output_loading_info": True, "ignore_mismatched_sizes": True}
        model, info = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)  # type: ignore[misc]
        if refuse_misshapen and info["mismatched_keys"]:
            _raise_on_misshapen(model, info["mismatched_keys"], pretrained_model_name_or_path)
        if names and not return_info:  # who asks for the information decides on it
            _raise_on_missing(model, info["missing_keys"], names, pretrained_model_name_or_path)
        _keep_4bit_weights_as_stored(model)
        if reparameterize:
            model.reparameterize()
        return (model, info) if return_info else model

    @classmethod
    def _fit_config_to_tensors(cls, source, config, names: set[str], kwargs: dict[str, Any]):
        """The configuration, with what only tensor names tell: the encoder's form, and whether `lm_head` is tied.

        Takes the arguments meant for the configuration out of `kwargs`.
        """
        if isinstance(config, PretrainedConfig):
            config = copy.deepcopy(config)
        else:
            kept = {key: kwargs.pop(key) for key in ("attn_implementation", "dtype", "torch_dtype") if key in kwargs}
            hub_arguments = {key: kwargs[key] for key in HUB_ARGUMENTS if kwargs.get(key) is not None}
            config, unused = cls.config_class.from_pretrained(  # type: ignore[attr-defined]
                config or source, return_unused_kwargs=True, **kwargs
            )
            kwargs.clear()
            kwargs.update(unused | hub_arguments | kept)
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
            setattr(config, name, [module for names in SPARED_PARTS.values() for module in names])
    return config


def _keep_4bit_weights_as_stored(model: nn.Module) -> None:
    """Have bitsandbytes compute with 4-bit weights in the layout that they are stored in.

    On CPUs with AVX512-BF16, its first forward pass in eval mode repacks them for a faster kernel, and every
    `state_dict()` packs them back without restoring their scales: what is saved from then on is corrupt, and so is the
    model in memory, adapters' checkpoints included (bitsandbytes 0.50.2, `_convert_weight_packed_for_cpu_inverse`).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


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
        listed = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise ValueError(f"{source} lacks tensors that {type(model).__name__} needs: {listed}.")


def find_image_token_id(source: str | os.PathLike, arguments: dict[str, Any]) -> int:
    """The id of `<image>` in a checkpoint's tokenizer, or the first free id, which it gets when it is added.

    Reads the tokenizer's files as text; a folder without any is taken for Qwen2's.
    """
    ids: dict[str, int] = {}
    if path := hub_file(source, "tokenizer.json", arguments):
        with open(path, encoding="utf-8") as file:
            tokenizer = json.load(file)
        ids |= tokenizer["model"].get("vocab", {})
        ids |= {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    for name in ("vocab.json", "added_tokens.json"):
        if path := hub_file(source, name, arguments):
            with open(path, encoding="utf-8") as file:
                ids |= json.load(file)
    if path := hub_file(source, "tokenizer_config.json", arguments):
        with open(path, encoding="utf-8") as file:
            added = json.load(file).get("added_tokens_decoder", {})
        ids |= {token["content"]: int(index) for index, token in added.items()}
    if not ids:
        return DEFAULT_IMAGE_TOKEN_ID
    return ids.get(IMAGE_TOKEN, max(ids.values()) + 1)
