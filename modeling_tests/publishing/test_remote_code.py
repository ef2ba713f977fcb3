# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The code files of a repository: which they are, what they import, and that every entry points to a class in them."""

import ast
import json
import shutil
import sys
from pathlib import Path

import pytest

import transformers_fastvlm
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.publishing.remote_code import write_remote_code

PACKAGE = Path(transformers_fastvlm.__file__).parent
LIBRARIES = {"transformers", "torch", "torchvision", "safetensors", "huggingface_hub", "PIL", "numpy"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    write_remote_code(folder)
    return folder


def imports_of(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    beside = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level}
    outside = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    outside |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return beside, {name.split(".")[0] for name in outside}


def test_the_core_and_no_more(folder):
    others = {"__init__.py", "__main__.py", "auto.py", "cli.py", "extras.py"}
    core = {path.name for path in PACKAGE.glob("*.py")} - others
    assert {path.name for path in folder.glob("*.py")} == core


def test_every_import_is_there_or_a_library_of_the_core(folder):
    for path in folder.glob("*.py"):
        beside, outside = imports_of(path)
        assert all((folder / f"{name}.py").is_file() for name in beside), path
        assert outside - set(sys.stdlib_module_names) <= LIBRARIES, path


def references(value):
    """Every `module.Class` that an `auto_map` somewhere in a configuration names."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "auto_map":
                entries = each.values()
                yield from (name for entry in entries for name in ([entry] if isinstance(entry, str) else entry))
            else:
                yield from references(each)


def test_every_entry_names_a_class_of_its_file(folder):
    names = set()
    for file in ("config.json", "processor_config.json"):
        names |= set(references(json.loads((folder / file).read_text())))
    assert len(names) == 9
    for name in names:
        module, class_name = name.split(".")
        tree = ast.parse((folder / f"{module}.py").read_text())
        assert class_name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def test_each_file_says_where_it_comes_from(folder):
    for path in folder.glob("*.py"):
        first, second, third, *rest = path.read_text().splitlines()
        assert first.startswith("# Copyright") and "Apache-2.0" in second
        assert third.startswith("# From transformers-fastvlm ")
        assert [first, second, *rest] == (PACKAGE / path.name).read_text().splitlines()
