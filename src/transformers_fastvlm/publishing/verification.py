# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a repository folder is what it should be: what is in it, and what it computes."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from ..inference.fixed_inputs import fixed_inputs, last_logits
from .card_rules import card_errors
from .checkpoint_source import CheckpointSource
from .errors import PublishError, told_as
from .folder_files import files_in
from .hub_lists import BUNDLED, HubLists
from .private_words import private_words
from .publish_settings import PublishSettings
from .source_files import find_files
from .source_loading import load_model

_KNOWN_FILES = re.compile(
    r"(?:config|generation_config|processor_config|preprocessor_config|adapter_config|tokenizer|tokenizer_config"
    r"|special_tokens_map|added_tokens|vocab|model\.safetensors\.index)\.json"
    r"|(?:adapter_model|model|model-\d{5}-of-\d{5})\.safetensors"
    r"|exports/(?:onnx|openvino)/(?:export|config|generation_config|processor_config|preprocessor_config|tokenizer"
    r"|tokenizer_config)\.json|exports/(?:onnx|openvino)/chat_template\.jinja"
    r"|exports/onnx/onnx/\w+\.onnx(?:_data(?:_\d+)?)?|exports/openvino/openvino_\w+\.(?:xml|bin)"
    r"|\w+\.py|chat_template\.jinja|merges\.txt|LICENSE|NOTICE|README\.md|(?:example|ttft-stages)\.png"
)


@dataclass(frozen=True)
class Reference:
    """
    What the source makes of a fixed image and question.

    Args:
        inputs: the processor's output.
        logits: scores of the next token, `(1, vocab)`.
    """

    inputs: dict[str, torch.Tensor]
    logits: torch.Tensor


def reference_of(model: Any, processor: Any) -> Reference:
    """What the source computes, for what is read back to be compared with."""
    inputs = fixed_inputs(processor)
    return Reference(inputs, last_logits(model, inputs))


def verify_contents(folder: Path, lists: HubLists = BUNDLED) -> None:
    """
    Check that a folder has nothing but what belongs into a repository, and a card that the Hub takes.

    Args:
        lists: what the Hub knows.

    Raises:
        PublishError: if there is any other file, a secret, a path of this machine, or a card with errors.
    """
    for name, path in files_in(folder).items():
        if not _KNOWN_FILES.fullmatch(name):
            raise PublishError(f"{name} does not belong into a repository of a model; nothing was uploaded.")
        for what, found in private_words(path):
            raise PublishError(f"{name} has {what} in it ({found}); nothing was uploaded.")
    if errors := card_errors((folder / "README.md").read_text(encoding="utf-8"), lists):
        raise PublishError(f"The Hub would refuse the card: {'; '.join(errors)}.")


def verify_model(folder: Path, reference: Reference, source: CheckpointSource, settings: PublishSettings) -> float:
    """
    Load a repository folder as its readers do, and compare what it computes with the source.

    Returns:
        the largest difference of the logits.

    Raises:
        PublishError: if inputs or logits differ by more than the rounding of their dtype.
    """
    with told_as("The repository cannot be loaded as its readers will"):
        if settings.adapter:
            published = replace(source, adapter=find_files(str(folder)))
            model: Any = load_model(published, settings.variant, keep_adapter=True)
        else:
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").eval()
        inputs = fixed_inputs(AutoProcessor.from_pretrained(folder))
        actual = Reference(inputs, last_logits(model, inputs))
    return _compare(actual, reference, "the folder")


def verify_without_package(folder: Path, reference: Reference) -> float:
    """
    The same in a process that cannot import this package, with the repository's own code.

    Returns:
        the largest difference of the logits.

    Raises:
        PublishError: as `verify_model`, or if the code does not run.
    """
    with tempfile.TemporaryDirectory() as work:
        output = Path(work) / "output.safetensors"
        command = [sys.executable, str(Path(__file__).parent / "load_without_package.py"), str(folder), str(output)]
        environment = {**os.environ, "HF_MODULES_CACHE": str(Path(work) / "modules")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PublishError(f"The repository's code does not run without this package:\n{done.stderr[-2000:]}")
        tensors = load_file(output)
    logits = tensors.pop("logits")
    return _compare(Reference(tensors, logits), reference, "the repository's own code")


def _compare(actual: Reference, expected: Reference, where: str) -> float:
    for name in expected.inputs.keys() | actual.inputs.keys():
        ours, theirs = actual.inputs.get(name), expected.inputs.get(name)
        if ours is None or theirs is None or not torch.equal(ours, theirs):
            raise PublishError(f"With {where}, the processor's `{name}` is not the source's.")
    largest = expected.logits.float().abs().max()
    difference = (actual.logits.float() - expected.logits.float()).abs().max()
    if not difference <= 16 * torch.finfo(expected.logits.dtype).eps * largest:
        raise PublishError(
            f"With {where}, logits differ from the source's by {difference:.2e} (largest {largest:.2e})."
        )
    return float(difference)
