# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What is in the source's configuration files, and in no class, is not published."""

import json
import shutil

import pytest

from tiny_models import adapter_for, write_tiny_checkpoint
from transformers_fastvlm.publishing.publication import publish
from transformers_fastvlm.publishing.publish_settings import PublishSettings

PLACES = [
    ("config.json", None),
    ("config.json", "text_config"),
    ("config.json", "vision_config"),
    ("generation_config.json", None),
    ("processor_config.json", None),
    ("processor_config.json", "image_processor"),
    ("tokenizer_config.json", None),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def write_notes(folder, places):
    for file, part in places:
        content = json.loads((folder / file).read_text())
        content.pop("_from_model_config", None)
        (content[part] if part else content).update(note="ask Alice", _name_or_path="models/of-Alice")
        (folder / file).write_text(json.dumps(content))


def test_nothing_undeclared_is_published(tiny, tmp_path):
    source = shutil.copytree(tiny, tmp_path / "source")
    write_notes(source, PLACES)
    steps = []
    settings = PublishSettings(str(source), "acme/reader", license="mit", remote_code=False)
    publish(settings, tmp_path / "folder", progress=steps.append)
    for path in (tmp_path / "folder").glob("*.json"):
        assert "Alice" not in path.read_text()
    told = next(step for step in steps if step.startswith("left out"))
    assert "config.json: text_config.note" in told and "tokenizer_config.json: note" in told
    assert "_name_or_path" not in told


def test_what_is_declared_stays(tiny, tmp_path):
    settings = PublishSettings(str(tiny), "acme/reader", license="mit", remote_code=False)
    steps = []
    publish(settings, tmp_path / "folder", progress=steps.append)
    assert not [step for step in steps if step.startswith("left out")]
    for file in ("config.json", "generation_config.json", "processor_config.json", "tokenizer_config.json"):
        before, after = (json.loads((folder / file).read_text()) for folder in (tiny, tmp_path / "folder"))
        before = {name: value for name, value in before.items() if name not in ("is_local", "local_files_only")}
        if file == "config.json":
            for part in ("text_config", "vision_config"):
                before[part].pop("_name_or_path", None)
                before[part]["dtype"] = "float32"
        assert after == before


def test_an_adapters_too(tiny, tmp_path):
    adapter_for(tiny, tmp_path / "adapter")
    write_notes(tmp_path / "adapter", [("adapter_config.json", None)])
    settings = PublishSettings(
        str(tmp_path / "adapter"), "acme/reader", license="mit", adapter=True, base_model="acme/base"
    )
    publish(settings, tmp_path / "folder")
    assert "Alice" not in (tmp_path / "folder" / "adapter_config.json").read_text()
