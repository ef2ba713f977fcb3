# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Code files for a repository, so that `trust_remote_code=True` works for readers without this package.

They are the package's own flat files. transformers copies a module and what it imports with `from .x import y`, and
finds the classes by the `auto_map` entries in the configuration files.
"""

import ast
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from .. import (
    FastViTHDBackbone,
    FastViTHDConfig,
    FastViTHDModel,
    FastVLMConfig,
    FastVLMForConditionalGeneration,
    FastVLMImageProcessor,
    FastVLMImageProcessorPil,
    FastVLMModel,
    FastVLMProcessor,
)
from .folder_files import read_object, write_json

_PACKAGE = Path(__file__).parents[1]
_MODEL_CLASSES = {
    "AutoConfig": FastVLMConfig,
    "AutoModel": FastVLMModel,
    "AutoModelForCausalLM": FastVLMForConditionalGeneration,
    "AutoModelForImageTextToText": FastVLMForConditionalGeneration,
}
_ENCODER_CLASSES = {
    "AutoBackbone": FastViTHDBackbone,
    "AutoConfig": FastViTHDConfig,
    "AutoModel": FastViTHDModel,
}
_PROCESSOR_CLASSES = {"AutoProcessor": FastVLMProcessor}
# Without torchvision, and with it. transformers takes a dict as well, but not out of a repository on the Hub.
_IMAGE_PROCESSOR_CLASSES = (FastVLMImageProcessorPil, FastVLMImageProcessor)


def write_remote_code(folder: Path) -> list[Path]:
    """
    Add the code files to a saved model and its processor, and the entries that point to them.

    Returns:
        the code files.
    """
    tables = (_MODEL_CLASSES, _ENCODER_CLASSES, _PROCESSOR_CLASSES)
    classes = {*_IMAGE_PROCESSOR_CLASSES, *(each for table in tables for each in table.values())}
    files = []
    for name in sorted(_with_imports({_module_of(each) for each in classes})):
        files.append(folder / f"{name}.py")
        files[-1].write_text(_generated(name), encoding="utf-8")
    _point_to_code(folder)
    return files


def _module_of(each: type) -> str:
    return each.__module__.rpartition(".")[2]


def _reference(each: type) -> str:
    """A class as transformers looks for it in a repository."""
    return f"{_module_of(each)}.{each.__name__}"


def _entries(classes: Mapping[str, type]) -> dict[str, str]:
    return {auto_class: _reference(each) for auto_class, each in classes.items()}


def _with_imports(names: set[str]) -> set[str]:
    """The modules, and all modules beside them that they import, directly or through others."""
    known: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        known.add(name)
        tree = ast.parse((_PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1)
        waiting |= {node.module for node in imports if node.module} - known
    return known


def _generated(name: str) -> str:
    text = (_PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    origin = f"# From transformers-fastvlm {version('transformers-fastvlm')}, where changes belong.\n"
    copyright_lines, docstring, rest = text.partition('"""')
    return copyright_lines + origin + docstring + rest


def _point_to_code(folder: Path) -> None:
    config = read_object(folder / "config.json")
    config["auto_map"] = _entries(_MODEL_CLASSES)
    # So that `AutoModel.from_pretrained(repo, config=config.vision_config)` is the encoder alone.
    config["vision_config"]["auto_map"] = _entries(_ENCODER_CLASSES)
    write_json(folder / "config.json", config)
    processor = read_object(folder / "processor_config.json")
    processor["auto_map"] = _entries(_PROCESSOR_CLASSES)
    processor["image_processor"]["auto_map"] = {
        "AutoImageProcessor": [_reference(each) for each in _IMAGE_PROCESSOR_CLASSES]
    }
    write_json(folder / "processor_config.json", processor)
