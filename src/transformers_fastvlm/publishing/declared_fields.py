# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Leaves out of saved configurations what their classes do not declare.

transformers keeps every entry of a configuration file that it reads, and writes it again: notes, paths and keys of
whoever made the file would be published.
"""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from transformers import GenerationConfig, PretrainedConfig

from .folder_files import read_object, write_json

_OF_EVERY_CONFIG = {"auto_map", "model_type", "quantization_config", "transformers_version"}
# A tokenizer's classes take whatever they are given; these are what transformers documents, and its special tokens.
_OF_A_TOKENIZER = {
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "additional_special_tokens",
    "auto_map",
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "errors",
    "extra_special_tokens",
    "legacy",
    "model_input_names",
    "model_max_length",
    "model_specific_special_tokens",
    "padding_side",
    "processor_class",
    "spaces_between_special_tokens",
    "split_special_tokens",
    "tokenizer_class",
    "truncation_side",
    "use_default_system_prompt",
}
SPECIAL_TOKENS = {f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask", "image")}
# What transformers notes about a file that it has read; nobody else's business, and nobody's loss.
_NOTES = {"_name_or_path", "is_local", "local_files_only", "name_or_path", "special_tokens_map_file", "tokenizer_file"}


def keep_declared(folder: Path, config: PretrainedConfig | None, processor: Any) -> list[str]:
    """
    Rewrite the configuration files of a folder without entries that no class declares.

    Args:
        config: of the model; `None` for an adapter, whose class refuses others by itself.

    Returns:
        the entries that were left out, as `FILE: ENTRY`.
    """
    known: dict[str, list[tuple[str | None, set[str]]]] = {
        "processor_config.json": [("image_processor", _image_processor_fields(processor.image_processor))],
        "tokenizer_config.json": [(None, _tokenizer_fields(type(processor.tokenizer)))],
    }
    if config is not None:
        parts = [(None, config), ("text_config", config.text_config), ("vision_config", config.vision_config)]
        known["config.json"] = [(name, _config_fields(part)) for name, part in parts]
        known["generation_config.json"] = [(None, set(GenerationConfig().to_dict()) | {"_from_model_config"})]
    left_out = []
    for file, file_parts in known.items():
        if (folder / file).is_file():
            content = read_object(folder / file)
            for name, declared in file_parts:
                part = content if name is None else content.get(name, {})
                unknown = sorted(part.keys() - declared)
                for entry in unknown:
                    del part[entry]
                prefix = "" if name is None else f"{name}."
                left_out += [f"{file}: {prefix}{entry}" for entry in unknown if entry not in _NOTES]
            write_json(folder / file, content)
    return left_out


def _config_fields(config: PretrainedConfig) -> set[str]:
    """What a configuration's class declares, and what a new one of it writes."""
    declared = {field.name for field in fields(config)} | set(type(config)().to_dict())
    return (declared | _OF_EVERY_CONFIG) - _NOTES


def _image_processor_fields(image_processor: Any) -> set[str]:
    declared = set(get_type_hints(type(image_processor).valid_kwargs)) | set(type(image_processor)().to_dict())
    return declared | {"auto_map", "image_processor_type"}


def _tokenizer_fields(tokenizer: type) -> set[str]:
    """What its constructors take, without the files of its vocabulary."""
    names = {name for each in tokenizer.__mro__ for name in inspect.signature(each.__init__).parameters}
    names -= {"self", "args", "kwargs", "vocab", "merges", "vocab_file", "merges_file", "tokenizer_file"}
    return names | _OF_A_TOKENIZER | SPECIAL_TOKENS
