# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What there is to publish, found out once, from the source's small files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig

from .. import FastVLMConfig, register_upstream
from ..checkpoint_formats import FOREIGN_FORMATS, ORIGINAL_LICENSE
from .errors import PublishError, told_as
from .folder_files import read_object
from .publish_settings import PublishSettings, require_repo_id
from .source_files import ADAPTER_WEIGHTS, CheckpointFiles, find_files
from .stored_tensors import StoredTensors, lossless_dtype, stored_tensors

_FORMATS = {**FOREIGN_FORMATS, FastVLMConfig.model_type: "own"}
_MODEL_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
_READ_FILES = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "vocab.json",
)
# Files that a tokenizer's vocabulary is in: one of these, whole.
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",), ("vocab.txt",))


@dataclass(frozen=True)
class CheckpointSource:
    """
    Args:
        model: the files of the model, of the base if there is an adapter.
        adapter: those of a LoRA adapter for it.
        format: of the model's files: `"original"`, `"upstream"` or `"own"`.
        config: of the model.
        adapter_config: of the adapter, as stored.
        metadata: of the source's own model card.
    """

    model: CheckpointFiles
    adapter: CheckpointFiles | None
    format: str
    config: FastVLMConfig
    adapter_config: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def given(self) -> CheckpointFiles:
        """What the user pointed to."""
        return self.adapter or self.model

    @property
    def location(self) -> str:
        """Where the user pointed to."""
        return self.given.location

    @property
    def processor(self) -> CheckpointFiles:
        """What has the processor: the adapter, if it comes with its own, else the model."""
        return self.given if self.given.find("processor_config.json") else self.model

    @cached_property
    def tensors(self) -> StoredTensors:
        """The model's tensors as its files hold them, by the names that our model has for them."""
        return stored_tensors(self.model.weights, self.config)

    @property
    def adapter_tensors(self) -> StoredTensors:
        """The adapter's, by their names in its file; none without an adapter."""
        return self.adapter.adapter_tensors if self.adapter else {}

    @property
    def dtype(self) -> torch.dtype:
        """The one to load the model in so that nothing is rounded, whatever its configuration says."""
        return lossless_dtype(self.tensors) or torch.float32

    @property
    def datasets(self) -> list[str]:
        """Hub ids of what the weights were trained on, by the source's card."""
        return _texts(self.metadata.get("datasets"))

    @property
    def is_quantized(self) -> bool:
        """Whether the model is stored in weights of few bits."""
        return getattr(self.config, "quantization_config", None) is not None

    @property
    def is_original_derived(self) -> bool:
        """Whether the weights are the authors', or made from them."""
        marks = [self.config.weights_license, self.config.vision_config.weights_license, self.metadata.get("license")]
        bases = [self.model.location, *_texts(self.metadata.get("base_model"))]
        return ORIGINAL_LICENSE in marks or any(base.startswith("apple/FastVLM") for base in bases)


def resolve_source(settings: PublishSettings) -> CheckpointSource:
    """
    Find out what `settings.source` is, from its small files.

    Raises:
        PublishError: if it is no FastVLM checkpoint nor an adapter for one, its weights are pickled, a file is missing
            or damaged, or it cannot be published in the way that is asked for.
    """
    with told_as(f"{settings.source} cannot be loaded"):
        register_upstream()
        given = find_files(settings.source)
        adapter_config = _read_adapter_config(given, settings)
        model, adapter = given, None
        if adapter_config:
            base = adapter_config["base_model_name_or_path"]
            model, adapter = find_files(base, f", the base of the adapter {given.location},"), given
            _require_safetensors(adapter, (ADAPTER_WEIGHTS,))
        file_format = _require_fastvlm(model)
        config = AutoConfig.from_pretrained(model.folder)
        metadata = _metadata(model) | _metadata(given)
        source = CheckpointSource(model, adapter, file_format, config, adapter_config, metadata)
        _require_whole_files(source)
        _require_publishable(source, settings)
        return source


def _read_adapter_config(given: CheckpointFiles, settings: PublishSettings) -> dict[str, Any]:
    """As PEFT has stored it; nothing for a model."""
    file = given.find("adapter_config.json")
    if file is None:
        if settings.adapter:
            raise PublishError(
                f"{given.location} is no adapter: it has no adapter_config.json. Leave out `--adapter`."
            )
        return {}
    content = read_object(file)
    needed = ("base_model_name_or_path", "peft_type")
    if missing := [name for name in needed if not isinstance(content.get(name), str)]:
        raise PublishError(f"{file} has no {' and no '.join(missing)}, so it is none of PEFT's.")
    return content


def _require_safetensors(files: CheckpointFiles, names: tuple[str, ...]) -> None:
    if files.names.intersection(names):
        return
    pickled = next((name for name in _PICKLED_WEIGHTS if name in files.names), None)
    if pickled is None:
        raise PublishError(f"{files.location} has no weights: none of {', '.join(names)}.")
    raise PublishError(
        f"{files.location} has pickled weights ({pickled}), which can run any code when they are loaded, so they are "
        "neither read nor published. If you trust them, convert them first: "
        f"`AutoModelForVision2Seq.from_pretrained({files.location!r}, use_safetensors=False)"
        ".save_pretrained(FOLDER)`."
    )


def _require_fastvlm(model: CheckpointFiles) -> str:
    """The format of its files."""
    config = model.find("config.json")
    if config is None:
        raise PublishError(f"{model.location} cannot be loaded: there is no config.json in it.")
    _require_safetensors(model, _MODEL_WEIGHTS)
    model_type = read_object(config).get("model_type")
    if model_type not in _FORMATS:
        raise PublishError(f"{model.location} is no FastVLM: its `model_type` is {model_type!r}.")
    return _FORMATS[model_type]


def _require_whole_files(source: CheckpointSource) -> None:
    """transformers takes defaults in place of some files that are damaged."""
    for files in (source.model, source.given):
        for name in _READ_FILES:
            if path := files.find(name):
                content = read_object(path)
                if not isinstance(content.get("image_processor", {}), dict):
                    raise PublishError(f"{path} is damaged: its `image_processor` is no JSON object.")
    if not any(source.processor.names.issuperset(names) for names in _VOCABULARIES):
        wanted = ", or ".join(" and ".join(names) for names in _VOCABULARIES)
        raise PublishError(f"{source.processor.location} has no tokenizer: there is no {wanted} in it.")


def _require_publishable(source: CheckpointSource, settings: PublishSettings) -> None:
    model, merged = source.model, source.adapter is not None and not settings.adapter
    if settings.adapter and settings.base_model is None and not model.is_on_hub:
        raise PublishError(
            f"The adapter's base is {model.folder.name}, a folder that nobody else has. Publish the base first, "
            "and name it with `--base-model ORG/NAME`."
        )
    if source.is_quantized and settings.variant is not None and not settings.adapter:
        raise PublishError(
            f"{model.location} is quantized already: leave `--variant` out, or take what it was made from."
        )
    if source.is_quantized and merged:
        raise PublishError(
            f"{model.location}, the base of the adapter {source.location}, is quantized, and what is merged into such "
            "weights is rounded away. Publish the adapter as it is (`--adapter`), or name its unquantized base in its "
            "adapter_config.json."
        )


def _metadata(files: CheckpointFiles) -> dict[str, Any]:
    """Of a card, without a base model that is a folder of whoever trained."""
    card = files.find("README.md")
    if card is None:
        return {}
    with told_as(f"The metadata of {card} cannot be read"):
        metadata = ModelCard.load(card, ignore_metadata_errors=True).data.to_dict()
    public = [base for base in _texts(metadata.pop("base_model", None)) if _is_repo_id(base)]
    return metadata | ({"base_model": public} if public else {})


def _texts(value: Any) -> list[str]:
    """One text or a list of them, as metadata may have either; nothing else."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _is_repo_id(name: str) -> bool:
    try:
        require_repo_id(name)
    except PublishError:
        return False
    return not Path(name).exists()
