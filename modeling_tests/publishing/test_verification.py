# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What must not be in a repository is found, and so is a repository that computes something else."""

import json
import shutil
import tempfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.inference.fixed_inputs import fixed_inputs, last_logits
from transformers_fastvlm.publishing.checkpoint_source import resolve_source
from transformers_fastvlm.publishing.errors import PublishError
from transformers_fastvlm.publishing.publication import publish
from transformers_fastvlm.publishing.publish_settings import PublishSettings
from transformers_fastvlm.publishing.source_loading import load_model, load_processor
from transformers_fastvlm.publishing.verification import (
    reference_of,
    verify_contents,
    verify_model,
    verify_without_package,
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return PublishSettings(str(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))), "acme/reader", license="mit")


@pytest.fixture(scope="module")
def published(settings, tmp_path_factory):
    """A repository folder that was written and verified, the code in a process of its own included."""
    folder = tmp_path_factory.mktemp("published")
    publish(settings, folder)
    return folder


@pytest.fixture
def folder(published, tmp_path):
    return shutil.copytree(published, tmp_path / "folder")


@pytest.fixture(scope="module")
def reference(settings):
    source = resolve_source(settings)
    return reference_of(load_model(source, None), load_processor(source))


def test_what_was_written_passes(folder, reference, settings):
    verify_contents(folder)
    assert verify_model(folder, reference, resolve_source(settings), settings) == 0


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "training_args.bin", "pytorch_model.bin", "notes.txt", ".env", "runs/events", "a.png"]
)
def test_files_that_do_not_belong(name, folder):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(PublishError, match=f"{name} does not belong"):
        verify_contents(folder)


PRIVATE = {
    "a Hugging Face token": "hf_" + "a1B2" * 8,
    "an absolute path": "/home/alice/models/reader",
    "a Windows path": r"C:\Users\alice\reader",
    "a path of this machine": f"{tempfile.gettempdir()}/work",
}


@pytest.mark.parametrize("what", PRIVATE)
@pytest.mark.parametrize(
    "name", ["config.json", "README.md", "chat_template.jinja", "model.safetensors", "tokenizer.json"]
)
def test_private_words_are_found_wherever_they_are(what, name, folder):
    path = folder / name
    if name == "model.safetensors":
        save_file(load_file(path), path, metadata={"format": "pt", "from": PRIVATE[what]})
    elif path.suffix == ".json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"from": PRIVATE[what]}))
    else:
        path.write_text(f"{path.read_text()}\n# {PRIVATE[what]}\n")
    kinds = "a Hugging Face token|an absolute path|a path of this machine"
    with pytest.raises(PublishError, match=rf"{name} has ({kinds}) in it"):
        verify_contents(folder)


def test_home_in_a_vocabulary_is_a_token_like_any_other(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"<|im_end|>"', '"/home/alice"', 1))
    verify_contents(folder)


def test_a_template_with_questions_is_no_path(folder):
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + "{{- 'Q:\\nA:\\n' if false -}}")
    verify_contents(folder)


def test_a_card_that_the_hub_would_refuse(folder):
    path = folder / "README.md"
    path.write_text(path.read_text().replace("license: mit", "license: mine"))
    with pytest.raises(PublishError, match='The Hub would refuse the card: "license" must be one of'):
        verify_contents(folder)


def test_other_weights_are_noticed(folder, reference, settings):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.multi_modal_projector.linear_1.bias"] += 0.1
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(PublishError, match="logits differ from the source's by"):
        verify_model(folder, reference, resolve_source(settings), settings)


def test_another_processor_is_noticed(folder, reference, settings):
    path = folder / "processor_config.json"
    path.write_text(path.read_text().replace('"do_pad": true', '"do_pad": false'))
    with pytest.raises(PublishError, match="the processor's `pixel_values` is not the source's"):
        verify_model(folder, reference, resolve_source(settings), settings)


def test_code_that_needs_this_package_is_noticed(folder, reference):
    path = folder / "modeling_fastvlm.py"
    path.write_text(path.read_text() + "\nimport transformers_fastvlm\n")
    with pytest.raises(PublishError, match="code does not run without this package"):
        verify_without_package(folder, reference)


def test_the_fixed_inputs_reach_every_part(settings):
    """A change anywhere in encoder, projector or decoder moves the logits that are compared."""
    source = resolve_source(settings)
    model, inputs = load_model(source, None), fixed_inputs(load_processor(source))
    before = last_logits(model, inputs)
    for name in ("vision_tower.stem", "vision_tower.final_conv", "multi_modal_projector", "language_model.layers.1"):
        changed = load_model(source, None)
        with torch.no_grad():
            for parameter in changed.model.get_submodule(name).parameters():
                parameter.mul_(1.05)
        assert not torch.equal(last_logits(changed, inputs), before), name
