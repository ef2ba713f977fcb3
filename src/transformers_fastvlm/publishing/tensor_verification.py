# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a repository folder has what the source's files hold: every tensor, every word of the vocabulary.

Comparing what two models compute cannot tell: what loading leaves out is missing from both.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig

from ..checkpoint_files import weight_files
from ..checkpoint_formats import IMAGE_TOKEN
from .checkpoint_source import CheckpointSource
from .declared_fields import SPECIAL_TOKENS
from .errors import PublishError
from .folder_files import read_object
from .publish_settings import QUANTIZED_VARIANTS, PublishSettings
from .source_files import ADAPTER_WEIGHTS
from .stored_tensors import StoredTensor, quantized_weight, stored_tensors, tensors_of

# `base_model.model.` and the module that an adapter's tensor changes, in PEFT's files.
_ADAPTED = re.compile(r"base_model\.model\.(?P<module>.+?)\.(?:lora_\w+|modules_to_save|\w+$)")


def verify_tensors(folder: Path, source: CheckpointSource, settings: PublishSettings) -> None:
    """
    Compare the tensors of a repository folder with the source's files, one at a time.

    Names (as the model has them), shapes and values are compared; dtypes where no variant asks for another one. Of
    weights that were quantized, or that an adapter was merged into, only the names.

    Raises:
        PublishError: if the folder lacks a tensor, has one that the source does not have, or another one.
    """
    if settings.adapter:
        theirs = source.adapter_tensors
        ours = tensors_of([folder / ADAPTER_WEIGHTS])
    else:
        theirs = source.tensors
        ours = stored_tensors(weight_files(folder), AutoConfig.from_pretrained(folder))
    changed = set() if settings.adapter else _adapted_modules(source)
    if settings.variant in QUANTIZED_VARIANTS:
        rounded = {weight for name in ours.keys() - theirs.keys() if (weight := quantized_weight(name))}
        changed |= {weight.rpartition(".")[0] for weight in rounded}
        ours = {name: parts for name, parts in ours.items() if quantized_weight(name) not in rounded}
        ours |= {weight: [] for weight in rounded}
    _refuse("lacks tensors that {source} has", theirs.keys() - ours.keys(), source)
    _refuse("has tensors that {source} does not have", ours.keys() - theirs.keys(), source)
    same_dtype = settings.variant is None and (settings.adapter or source.adapter is None)
    with ExitStack() as files:
        read = _reader(files)
        for name in theirs:
            if name.rpartition(".")[0] not in changed:
                _compare(name, theirs[name], ours[name], same_dtype, read)


def _adapted_modules(source: CheckpointSource) -> set[str]:
    matches = map(_ADAPTED.match, source.adapter_tensors)
    return {match["module"] for match in matches if match}


def _refuse(what: str, names: Iterable[str], source: CheckpointSource) -> None:
    if names := sorted(names):
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise PublishError(
            f"The repository {what.format(source=source.location)}: {listed}. The source's configuration does not fit "
            "its weights; nothing was uploaded."
        )


def _reader(stack: ExitStack) -> Callable[[StoredTensor], torch.Tensor]:
    """Reads tensors; the files, which are mapped into memory, stay open."""
    files = {}

    def read(tensor: StoredTensor) -> torch.Tensor:
        if tensor.file not in files:
            files[tensor.file] = stack.enter_context(safe_open(tensor.file, "pt"))
        return files[tensor.file].get_tensor(tensor.name)

    return read


def _compare(
    name: str,
    theirs: list[StoredTensor],
    ours: list[StoredTensor],
    same_dtype: bool,
    read: Callable[[StoredTensor], torch.Tensor],
) -> None:
    if len(theirs) != len(ours):
        raise PublishError(f"{name} is stored in {len(theirs)} parts by the source, and in {len(ours)} here.")
    for their, our in zip(sorted(theirs, key=lambda part: part.name), sorted(ours, key=lambda part: part.name)):
        if their.shape != our.shape:
            raise PublishError(f"{name} is {our.shape}, and {their.shape} in the source.")
        if same_dtype and their.dtype != our.dtype:
            raise PublishError(f"{name} is stored in {our.dtype}, and in {their.dtype} by the source.")
        published = read(our)
        expected = read(their).to(published.dtype)
        # Bit for bit, so that NaN is NaN.
        if not torch.equal(published.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8)):
            raise PublishError(f"The values of {name} are not the source's.")


def verify_vocabulary(folder: Path, source: CheckpointSource) -> None:
    """
    Raises:
        PublishError: if a token of the source's tokenizer is not in the folder's, or has another id there, or the
            folder's has others beside `<image>` and its special tokens.
    """
    location = source.processor.location
    ours, theirs = stored_vocabulary(folder), stored_vocabulary(source.processor.folder)
    if other := [token for token, index in theirs.items() if ours.get(token) != index]:
        raise PublishError(
            f"The tokenizer of {location} has {len(theirs)} tokens, of which the repository's lacks {len(other)}, or "
            f"has them at other ids: {_listed(other)}; nothing was uploaded."
        )
    special = {IMAGE_TOKEN} | {
        value for name, value in read_object(folder / "tokenizer_config.json").items() if name in SPECIAL_TOKENS
    }
    # transformers makes a token of every `..._token` in a tokenizer_config.json, whatever it is.
    if theirs and (more := [token for token in ours if token not in theirs and token not in special]):
        shown = _listed([f"{token[:4]}…" for token in more])
        raise PublishError(
            f"The tokenizer of {location} makes tokens that are not in its vocabulary: {shown}. Take them out of its "
            "tokenizer_config.json, or add them to the vocabulary; nothing was uploaded."
        )


def stored_vocabulary(folder: Path) -> dict[str, int]:
    """Ids of a tokenizer's tokens, as far as its JSON files tell them; none of a vocabulary in another format."""
    if (folder / "tokenizer.json").is_file():
        content = read_object(folder / "tokenizer.json")
        words = content["model"].get("vocab", {})  # a list of words and scores in a unigram model
        tokens = words if isinstance(words, dict) else {word: index for index, (word, _) in enumerate(words)}
        return tokens | {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    vocabulary, added, settings = (
        read_object(path) if (path := folder / name).is_file() else {}
        for name in ("vocab.json", "added_tokens.json", "tokenizer_config.json")
    )
    decoder = settings.get("added_tokens_decoder", {})
    if not vocabulary:
        return {}
    return vocabulary | added | {token["content"]: int(index) for index, token in decoder.items()}


def _listed(tokens: list[str]) -> str:
    return ", ".join(map(repr, tokens[:10])) + (f" and {len(tokens) - 10} more" if len(tokens) > 10 else "")
