# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a source is, in which dtype and under which licence it goes out, and what cannot be published."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers_tokenizer import write_original_folder
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm import FastVLMConfig, FastVLMForConditionalGeneration
from transformers_fastvlm.publishing.checkpoint_source import resolve_source
from transformers_fastvlm.publishing.errors import PublishError
from transformers_fastvlm.publishing.licences import ATTRIBUTION, choose_licence
from transformers_fastvlm.publishing.publish_settings import PublishSettings
from transformers_fastvlm.publishing.source_loading import load_model, load_processor
from transformers_fastvlm.publishing.stored_tensors import StoredTensor, lossless_dtype

AGREEMENT = "Apple Machine Learning Research Model License Agreement, made up for this test\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def original(golden, tmp_path):
    """An original checkpoint's configuration and tokenizer, with one tensor."""
    config = json.loads((golden / "original" / "config.json").read_text())
    folder = write_original_folder(tmp_path / "original", config)
    save_file({"model.norm.weight": torch.ones(64)}, folder / "model.safetensors")
    return folder


def settings(source, **changes):
    return PublishSettings(str(source), "acme/reader", **changes)


def licence_of(source, **changes):
    return choose_licence(resolve_source(settings(source, **changes)), settings(source, **changes))


def test_own_checkpoints_need_a_licence_to_be_named(tiny):
    with pytest.raises(PublishError, match="No licence is known.*--license apache-2.0"):
        licence_of(tiny)
    licence = licence_of(tiny, license="mit")
    assert (licence.identifier, licence.text, licence.is_original) == ("mit", None, False)


def test_the_sources_card_names_the_licence(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("---\nlicense: bsd\n---\n\n# Copy\n")
    (tmp_path / "copy" / "LICENSE").write_text("The text.\n")
    licence = licence_of(tmp_path / "copy")
    assert (licence.identifier, licence.text) == ("bsd", "The text.\n")


def test_so_does_its_configuration(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | {"weights_license": "mit"}))
    assert licence_of(tmp_path / "copy").identifier == "mit"
    assert licence_of(tmp_path / "copy", license="apache-2.0").identifier == "apache-2.0"


def test_original_weights_keep_their_licence(original, tmp_path):
    with pytest.raises(PublishError, match=r"cannot be published under 'mit'"):
        licence_of(original, license="mit")
    with pytest.raises(PublishError, match=r"with a copy of the Apple .* give it with `--license-file`"):
        licence_of(original)
    (original / "LICENSE").write_text("Do as you please.\n")
    with pytest.raises(PublishError, match="may only be passed on with a copy"):
        licence_of(original)
    (original / "LICENSE").write_text(AGREEMENT)
    licence = licence_of(original, modifications=("Fine-tuned on receipts.",))
    licence.write(tmp_path)
    assert (tmp_path / "LICENSE").read_text() == AGREEMENT
    notice = (tmp_path / "NOTICE").read_text()
    assert notice.startswith(ATTRIBUTION)
    assert "- Fine-tuned on receipts.\n- Converted from the original layout" in notice


@pytest.mark.parametrize("part", ["model", "encoder"])
def test_the_licence_survives_conversion(part, original, tiny, tmp_path):
    """A checkpoint saved in our own layout, or built around the authors' encoder, is still theirs."""
    config = FastVLMConfig.from_pretrained(tiny)
    from_original = FastVLMConfig.from_pretrained(original)
    if part == "model":
        config.weights_license = from_original.weights_license
    else:
        config.vision_config.weights_license = from_original.vision_config.weights_license
    shutil.copytree(tiny, tmp_path / "own")
    FastVLMForConditionalGeneration(config).save_pretrained(tmp_path / "own")
    with pytest.raises(PublishError, match="cannot be published under 'apache-2.0'"):
        licence_of(tmp_path / "own", license="apache-2.0")


def test_weights_keep_their_dtype_whatever_the_configuration_asks_for(tiny, tmp_path):
    assert resolve_source(settings(tiny)).dtype == torch.float32
    shutil.copytree(tiny, tmp_path / "half")
    tensors = load_file(tiny / "model.safetensors")
    half = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(half, tmp_path / "half" / "model.safetensors")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float32"
    source = resolve_source(settings(tmp_path / "half"))
    assert source.dtype == torch.bfloat16
    assert load_model(source, None).dtype == torch.bfloat16
    assert load_model(source, "fp16").lm_head.weight.dtype == torch.float16


BF16, F16, F32 = ["BF16"], ["F16"], ["F32"]


@pytest.mark.parametrize(
    ("decoder", "encoder", "expected"),
    [
        (BF16, BF16, torch.bfloat16),
        (BF16, F32, torch.float32),  # in bfloat16, the encoder would be rounded
        (F16, F32, torch.float16),  # a model in float16 has its encoder in float32
        (BF16 + F16, F16, torch.float32),
        (["I8"], F32, torch.float32),
        (["I8"], ["I8"], None),
    ],
)
def test_nothing_is_rounded_by_loading(decoder, encoder, expected):
    names = {"model.language_model.norm.weight": decoder, "model.vision_tower.projection": encoder}
    tensors = {name: [StoredTensor("", name, dtype, (1,)) for dtype in dtypes] for name, dtypes in names.items()}
    scale = "model.language_model.layers.0.mlp.up_proj.weight.absmax"
    assert lossless_dtype(tensors | {scale: [StoredTensor("", scale, "F32", (1,))]}) == expected


def test_a_source_without_a_tokenizer(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "mute")
    (tmp_path / "mute" / "tokenizer.json").unlink()
    with pytest.raises(PublishError, match=r"mute has no tokenizer: there is no tokenizer\.json, or vocab\.json and"):
        resolve_source(settings(tmp_path / "mute"))
    (tmp_path / "mute" / "tokenizer.json").write_text("{}")
    with pytest.raises(PublishError, match="The processor of .*mute cannot be loaded"):
        load_processor(resolve_source(settings(tmp_path / "mute")))


@pytest.mark.parametrize(
    ("repo_id", "message"),
    [("reader", "must be of the form ORG/NAME"), ("acme/re ader", "no valid id"), ("a/b/c", "no valid id")],
)
def test_ids_that_are_not_valid(repo_id, message, tiny):
    with pytest.raises(PublishError, match=message):
        PublishSettings(str(tiny), repo_id)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "int3"}, "Unknown variant 'int3'; known are bf16, fp16, int8, nf4"),
        ({"adapter": True, "variant": "nf4"}, "An adapter has no quantized variant"),
        ({"base_model": "nobody"}, "'nobody' is no valid id"),
    ],
)
def test_impossible_settings(changes, message, tiny):
    with pytest.raises(PublishError, match=message):
        settings(tiny, **changes)


def test_missing_files_are_named(tiny, tmp_path):
    with pytest.raises(PublishError, match=r"There is no file .*nowhere\.json"):
        settings(tiny, results=tmp_path / "nowhere.json")


def test_sources_that_are_none(tiny, tmp_path):
    with pytest.raises(PublishError, match="there is no config.json in it"):
        resolve_source(settings(tmp_path))
    with pytest.raises(PublishError, match="is no adapter"):
        resolve_source(settings(tiny, adapter=True))
    shutil.copytree(tiny, tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(PublishError, match="no FastVLM: its `model_type` is 'bert'"):
        resolve_source(settings(tmp_path / "bert"))
    (tmp_path / "bert" / "model.safetensors").unlink()
    with pytest.raises(PublishError, match=r"has no weights: none of model\.safetensors"):
        resolve_source(settings(tmp_path / "bert"))


def test_a_damaged_file_of_weights(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "cut")
    whole = (tiny / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PublishError, match="cannot be loaded"):
        load_model(resolve_source(settings(tmp_path / "cut")), None)


def test_pickled_weights_are_refused_with_the_way_out(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "pickled")
    torch.save(load_file(tiny / "model.safetensors"), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    with pytest.raises(PublishError, match=r"pickled weights \(pytorch_model\.bin\).*use_safetensors=False"):
        resolve_source(settings(tmp_path / "pickled"))


def test_an_adapter_on_a_folder_needs_the_name_of_its_base(tiny, tmp_path):
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(tiny), "peft_type": "LORA", "r": 8})
    )
    with pytest.raises(PublishError, match=r"has no weights: none of adapter_model\.safetensors"):
        resolve_source(settings(tmp_path, adapter=True))
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(PublishError, match="pickled weights"):
        resolve_source(settings(tmp_path))
    save_file({"a": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(PublishError, match="a folder that nobody else has.*--base-model"):
        resolve_source(settings(tmp_path, adapter=True))
    source = resolve_source(settings(tmp_path, adapter=True, base_model="acme/base"))
    assert (source.model.location, source.location) == (str(tiny), str(tmp_path))
