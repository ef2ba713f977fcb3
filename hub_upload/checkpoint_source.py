# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What there is to publish: finding out what a source is, and loading it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoConfig, AutoProcessor

from folder_files import read_object
from publish_settings import (
    QUANTIZED_VARIANTS,
    PublishError,
    PublishSettings,
    Variant,
    require_repo_id,
    told_as,
)
from stored_tensors import lossless_dtype, stored_tensors, tensors_of
from transformers_fastvlm import AutoModelForVision2Seq, FastVLMConfig, FastVLMProcessor, register_upstream
from transformers_fastvlm.checkpoint_files import hub_file
from transformers_fastvlm.checkpoint_formats import ORIGINAL_LICENSE
from transformers_fastvlm.quantization import quantization_config

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FORMATS = {"llava_qwen2": "original", "fast_vlm": "upstream", "fastvlm": "own"}
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PICKLED_ADAPTER = "adapter_model.bin"
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
        model: folder or Hub id of the model, of the base if there is an adapter.
        adapter: folder or Hub id of a LoRA adapter for it.
        format: of the model's files: `"original"`, `"upstream"` or `"own"`.
        config: of the model.
        adapter_config: of the adapter, as stored.
        metadata: of the source's own model card.
    """

    model: str
    adapter: str | None
    format: str
    config: FastVLMConfig
    adapter_config: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def location(self) -> str:
        """Where the user pointed to."""
        return self.adapter or self.model

    @property
    def datasets(self) -> list[str]:
        """Hub ids of what the weights were trained on, by the source's card."""
        return _texts(self.metadata.get("datasets"))

    @property
    def is_quantized(self) -> bool:
        """Whether the model is stored in weights of few bits."""
        return getattr(self.config, "quantization_config", None) is not None

    @property
    def processor_location(self) -> str:
        """Where the processor is: the adapter's own, if it has one, else the model's."""
        own = self.adapter and find_file(self.adapter, "processor_config.json")
        return self.adapter if self.adapter and own else self.model

    @property
    def is_original_derived(self) -> bool:
        """Whether the weights are the authors', or made from them."""
        marks = [self.config.weights_license, self.config.vision_config.weights_license, self.metadata.get("license")]
        bases = [self.model, *_texts(self.metadata.get("base_model"))]
        return ORIGINAL_LICENSE in marks or any(base.startswith("apple/FastVLM") for base in bases)


def find_file(location: str, name: str) -> Path | None:
    """A file of a folder or Hub repository, `None` if it has no such file."""
    found = hub_file(location, name)
    return None if found is None else Path(found)


def find_source(settings: PublishSettings) -> CheckpointSource:
    """
    Find out what `settings.source` is, from its small files.

    Raises:
        PublishError: if it is no FastVLM checkpoint nor an adapter for one, or its weights are pickled.
    """
    with told_as(f"{settings.source} cannot be loaded"):
        return _find_source(settings)


def _find_source(settings: PublishSettings) -> CheckpointSource:
    register_upstream()
    _require_location(settings.source)
    adapter_file = find_file(settings.source, "adapter_config.json")
    if adapter_file is None and settings.adapter:
        raise PublishError(f"{settings.source} is no adapter: it has no adapter_config.json. Leave out `--adapter`.")
    if adapter_file is None and find_file(settings.source, "config.json") is None:
        raise PublishError(f"{settings.source} cannot be loaded: there is no config.json in it, or no such folder.")
    adapter_config: dict[str, Any] = {}
    model, adapter = settings.source, None
    if adapter_file is not None:
        adapter_config = read_object(adapter_file)
        model, adapter = _base_of(adapter_file, adapter_config), settings.source
        _require_location(model, f", the base of the adapter {adapter},")
        _require_safetensors(adapter, (ADAPTER_WEIGHTS,), (_PICKLED_ADAPTER,))
        if settings.adapter and settings.base_model is None and Path(model).exists():
            raise PublishError(
                f"The adapter's base is {Path(model).name}, a folder that nobody else has. Publish the base first, "
                "and name it with `--base-model ORG/NAME`."
            )
    _require_safetensors(model, _WEIGHTS, _PICKLED_WEIGHTS)
    config_file = find_file(model, "config.json")
    if config_file is None:
        raise PublishError(f"{model}, the base of the adapter {adapter}, cannot be found.")
    model_type = read_object(config_file).get("model_type")
    if model_type not in _FORMATS:
        raise PublishError(f"{model} is no FastVLM: its `model_type` is {model_type!r}.")
    config = AutoConfig.from_pretrained(model)
    metadata = _metadata(model) | _metadata(settings.source)
    source = CheckpointSource(model, adapter, _FORMATS[model_type], config, adapter_config, metadata)
    for location in dict.fromkeys((model, source.location, source.processor_location)):
        _require_whole_files(location)
    _require_vocabulary(source.processor_location)
    if source.is_quantized and settings.variant is not None and not settings.adapter:
        raise PublishError(f"{model} is quantized already: leave `--variant` out, or take what it was made from.")
    if source.is_quantized and adapter is not None and not settings.adapter:
        raise PublishError(
            f"{model}, the base of the adapter {adapter}, is quantized, and what is merged into such weights is "
            "rounded away. Publish the adapter as it is (`--adapter`), or name its unquantized base in its "
            "adapter_config.json."
        )
    return source


def _base_of(adapter_file: Path, adapter_config: dict[str, Any]) -> str:
    needed = ("base_model_name_or_path", "peft_type")
    if missing := [name for name in needed if not isinstance(adapter_config.get(name), str)]:
        raise PublishError(f"{adapter_file} has no {' and no '.join(missing)}, so it is none of PEFT's.")
    return adapter_config["base_model_name_or_path"]


def _require_location(location: str, what: str = "") -> None:
    """The Hub's client would only say that a path is no valid id of a repository."""
    if location and Path(location).is_dir():
        return
    try:
        validate_repo_id(location)
    except HFValidationError as error:
        raise PublishError(f"{location or repr(location)}{what} is no folder, and no id of a repository.") from error
    if Path(location).exists():
        raise PublishError(f"{location}{what} is a file, not the folder of a checkpoint.")


def _require_whole_files(location: str) -> None:
    """transformers takes defaults in place of some files that are damaged."""
    for name in _READ_FILES:
        if path := find_file(location, name):
            content = read_object(path)
            if not isinstance(content.get("image_processor", {}), dict):
                raise PublishError(f"{path} is damaged: its `image_processor` is no JSON object.")


def _require_vocabulary(location: str) -> None:
    if not any(all(find_file(location, name) for name in names) for names in _VOCABULARIES):
        wanted = ", or ".join(" and ".join(names) for names in _VOCABULARIES)
        raise PublishError(f"{location} has no tokenizer: there is no {wanted} in it.")


def _require_safetensors(location: str, names: tuple[str, ...], pickled: tuple[str, ...]) -> None:
    if any(find_file(location, name) for name in names):
        return
    found = next((name for name in pickled if find_file(location, name)), None)
    if found is None:
        raise PublishError(f"{location} has no weights: none of {', '.join(names)}.")
    raise PublishError(
        f"{location} has pickled weights ({found}), which can run any code when they are loaded, so they are neither "
        "read nor published. If you trust them, convert them first: "
        f"`AutoModelForVision2Seq.from_pretrained({location!r}, use_safetensors=False).save_pretrained(FOLDER)`."
    )


def _metadata(location: str) -> dict[str, Any]:
    """Of a card, without a base model that is a folder of whoever trained."""
    card = find_file(location, "README.md")
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


def load_dtype(source: CheckpointSource) -> torch.dtype:
    """The dtype to load a source in so that nothing is rounded, whatever its configuration says."""
    return lossless_dtype(stored_tensors(source.model, source.config)) or torch.float32


def stored_vocabulary(location: str) -> dict[str, int]:
    """Ids of a tokenizer's tokens, as far as its JSON files tell them; none of a vocabulary in another format."""
    tokens: dict[str, int] = {}
    if path := find_file(location, "tokenizer.json"):
        content = read_object(path)
        words = content["model"].get("vocab", {})  # a list of words and scores in a unigram model
        tokens |= words if isinstance(words, dict) else {word: index for index, (word, _) in enumerate(words)}
        tokens |= {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    elif path := find_file(location, "vocab.json"):
        tokens |= read_object(path)
        if path := find_file(location, "added_tokens.json"):
            tokens |= read_object(path)
        if path := find_file(location, "tokenizer_config.json"):
            added = read_object(path).get("added_tokens_decoder", {})
            tokens |= {token["content"]: int(index) for index, token in added.items()}
    return tokens


def load_processor(source: CheckpointSource) -> FastVLMProcessor:
    """
    The adapter's own, if it has one, else the model's.

    Raises:
        PublishError: if it cannot be loaded.
    """
    with told_as(f"The processor of {source.processor_location} cannot be loaded"):
        return AutoProcessor.from_pretrained(source.processor_location)


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
        dtype = _DTYPES.get(variant or "") or load_dtype(source)
        model: Any = AutoModelForVision2Seq.from_pretrained(source.model, dtype=dtype)
        if source.adapter is not None:
            from peft import PeftModel

            # PEFT keeps adapters of 16 bits in float32 unless told otherwise, and would store that.
            in_float32 = variant is None or not keep_adapter
            model = PeftModel.from_pretrained(model, source.adapter, autocast_adapter_dtype=in_float32)
            _require_whole_adapter(model, source.adapter)
            if not keep_adapter:
                model = model.merge_and_unload(safe_merge=True)
        return model.eval()


def _require_whole_adapter(model: Any, adapter: str) -> None:
    """PEFT leaves out tensors that the model has no place for, and makes up those that are missing."""
    from peft import get_peft_model_state_dict

    stored = tensors_of([path for path in [find_file(adapter, ADAPTER_WEIGHTS)] if path]).keys()
    needed = get_peft_model_state_dict(model).keys()
    for what, names in (("has tensors that its base has no place for", stored - needed), ("lacks", needed - stored)):
        if names:
            raise PublishError(f"{adapter} {what}: {', '.join(sorted(names)[:10])}.")


def _load_quantized(source: CheckpointSource, variant: str) -> Any:
    config = quantization_config(variant)  # type: ignore[arg-type]
    dtype = load_dtype(source)
    if source.adapter is None:
        return AutoModelForVision2Seq.from_pretrained(source.model, dtype=dtype, quantization_config=config)
    # Merged before it is rounded: an adapter merged into 4-bit weights would be rounded away.
    with tempfile.TemporaryDirectory() as merged:
        load_model(source, None).save_pretrained(merged)
        return AutoModelForVision2Seq.from_pretrained(merged, dtype=dtype, quantization_config=config)
