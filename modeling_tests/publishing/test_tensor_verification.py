# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that the source's files hold is published, as it is: what loading leaves out is noticed."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny_models import adapter_for, write_tiny_checkpoint
from transformers_fastvlm.publishing.checkpoint_source import resolve_source
from transformers_fastvlm.publishing.errors import PublishError
from transformers_fastvlm.publishing.publication import publish
from transformers_fastvlm.publishing.publish_settings import PublishSettings
from transformers_fastvlm.publishing.stored_tensors import stored_tensors
from transformers_fastvlm.publishing.tensor_verification import verify_tensors, verify_vocabulary


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def source(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "source")


def settings(source, **changes):
    return PublishSettings(str(source), "acme/reader", **{"license": "mit", "remote_code": False, **changes})


def verify(folder, source, **changes):
    verify_tensors(folder, resolve_source(settings(source, **changes)), settings(source, **changes))


def change_config(folder, part=None, **changes):
    content = json.loads((folder / "config.json").read_text())
    (content[part] if part else content).update(changes)
    (folder / "config.json").write_text(json.dumps(content))


def change_tensors(folder, change):
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


NO_PLACE = {
    "fewer layers": ("text_config", {"num_hidden_layers": 1, "layer_types": None}, "language_model.layers.1"),
    "no biases": ("text_config", {"model_type": "llama", "layer_types": None}, "self_attn.k_proj.bias"),
    "no biases in the projector": (None, {"projector_bias": False}, "multi_modal_projector.linear_1.bias"),
    "fewer blocks": ("vision_config", {"depths": [1, 1, 1, 1, 1]}, "vision_tower.stages.2.blocks.1"),
    "no CLIP head": ("vision_config", {"projection_dim": None}, "vision_tower.projection"),
}


@pytest.mark.parametrize("why", NO_PLACE)
def test_stored_tensors_that_the_configuration_has_no_place_for(why, tiny, source, tmp_path):
    part, changes, name = NO_PLACE[why]
    change_config(source, part, **changes)
    with pytest.raises(PublishError, match=name):
        publish(settings(source), tmp_path / "folder")
    # By the files alone, too, whatever loading says of it.
    folder = shutil.copytree(tiny, tmp_path / "less")
    change_tensors(folder, lambda tensors: {key: tensor for key, tensor in tensors.items() if name not in key})
    with pytest.raises(PublishError, match=f"lacks tensors that .*source has: .*{name}"):
        verify(folder, source)


def test_other_tensors_are_noticed(tiny, source, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    verify(folder, source)
    name = "model.vision_tower.stages.2.blocks.1.layer_scale"
    for change, message in (
        (lambda tensor: tensor.flatten(), f"{name} is .*, and .* in the source"),
        (lambda tensor: tensor.bfloat16(), f"{name} is stored in BF16, and in F32 by the source"),
        (lambda tensor: tensor + 1e-6, f"The values of {name} are not the source's"),
    ):
        shutil.copyfile(tiny / "model.safetensors", folder / "model.safetensors")
        change_tensors(folder, lambda tensors, change=change: tensors | {name: change(tensors[name]).contiguous()})
        with pytest.raises(PublishError, match=message):
            verify(folder, source)
    change_tensors(folder, lambda tensors: tensors | {"model.more.weight": torch.zeros(1)})
    with pytest.raises(PublishError, match=r"has tensors that .*source does not have: model\.more\.weight"):
        verify(folder, source)


def test_names_of_an_original_become_ours(golden, tmp_path):
    """Every name of the original's list is a name of the model."""
    from transformers_fastvlm import FastVLMConfig, FastVLMForConditionalGeneration

    config = FastVLMConfig.from_pretrained(golden / "original")
    shapes = json.loads((golden / "original" / "tensor_shapes.json").read_text())
    save_file({name: torch.zeros(1) for name in shapes}, tmp_path / "model.safetensors")
    with torch.device("meta"):
        model = FastVLMForConditionalGeneration(config)
    assert set(stored_tensors([tmp_path / "model.safetensors"], config)) == set(model.state_dict())


def test_each_tensor_keeps_its_dtype(source, tmp_path):
    """A file of several dtypes, none of which is the one that its configuration says."""

    def mixed(tensors):
        dtypes = {"vision_tower": torch.float16, "language_model.norm": torch.float32}
        for name, tensor in tensors.items():
            dtype = next((dtype for part, dtype in dtypes.items() if part in name), torch.bfloat16)
            tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        return tensors

    change_tensors(source, mixed)
    change_config(source, dtype="float16")
    publish(settings(source), tmp_path / "folder")
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "folder"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor)
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["dtype"] == "float32"


def test_bfloat16_stays_though_the_configuration_says_float32(source, tmp_path):
    change_tensors(
        source,
        lambda tensors: {name: t.bfloat16() if t.is_floating_point() else t for name, t in tensors.items()},
    )
    publish(settings(source, max_shard_size="100KB"), tmp_path / "folder")
    dtypes = {
        tensor.dtype
        for path in (tmp_path / "folder").glob("*.safetensors")
        for tensor in load_file(path).values()
        if tensor.is_floating_point()
    }
    assert dtypes == {torch.bfloat16}
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("variant", ["int8", "nf4"])
def test_quantized_weights(variant, tiny, tmp_path):
    for library in ("bitsandbytes", "torchao"):
        pytest.importorskip(library, reason="quantized variants need bitsandbytes and torchao")
    publish(settings(tiny, variant=variant), tmp_path / "folder")
    publish(settings(tmp_path / "folder"), tmp_path / "again")  # a quantized source goes out as it is
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("folder", "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    with pytest.raises(PublishError, match="is quantized already: leave `--variant` out"):
        resolve_source(settings(tmp_path / "folder", variant="bf16"))
    change_tensors(
        tmp_path / "folder",
        lambda tensors: {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up_proj" not in name},
    )
    with pytest.raises(PublishError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        verify(tmp_path / "folder", tiny, variant=variant)


def test_an_adapter_is_whole(tiny, tmp_path):
    adapter_for(tiny, tmp_path / "adapter")
    base = {"adapter": True, "base_model": "acme/base"}
    publish(settings(tmp_path / "adapter", **base), tmp_path / "folder")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    first = next(iter(tensors))
    for changed, message in (
        (tensors | {first.replace("layers.0", "layers.7"): tensors[first].clone()}, "no place for: .*layers.7"),
        ({name: tensor for name, tensor in tensors.items() if name != first}, f"adapter lacks: {first}"),
    ):
        save_file(changed, path)
        for number, options in enumerate(({}, base)):
            with pytest.raises(PublishError, match=message):
                publish(settings(tmp_path / "adapter", **options), tmp_path / f"{len(changed)}-{number}")
    save_file(tensors | {first: tensors[first] + 1}, path)
    with pytest.raises(PublishError, match=f"The values of {first} are not the source's"):
        verify(tmp_path / "folder", tmp_path / "adapter", **base)


def test_an_adapter_of_a_quantized_base_is_not_merged(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "base")
    adapter_for(tmp_path / "base", tmp_path / "adapter")
    change_config(tmp_path / "base", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(PublishError, match=r"is quantized, and what is merged .* Publish the adapter as it is"):
        resolve_source(settings(tmp_path / "adapter"))


def test_what_an_adapter_does_not_change_stays(tiny, tmp_path):
    adapter_for(tiny, tmp_path / "adapter")
    publish(settings(tmp_path / "adapter"), tmp_path / "folder")
    change_tensors(tmp_path / "folder", lambda tensors: tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1})
    with pytest.raises(PublishError, match=r"The values of lm_head\.weight are not the source's"):
        verify(tmp_path / "folder", tmp_path / "adapter")


def test_a_smaller_vocabulary_is_noticed(tiny, source, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"].pop("a")
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(PublishError, match=r"of which the repository's lacks 1, or has them at other ids: 'a'"):
        verify_vocabulary(folder, resolve_source(settings(source)))


def test_a_note_among_the_special_tokens_becomes_no_token(source, tmp_path):
    content = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(content | {"note_token": "ask Alice"}))
    with pytest.raises(PublishError, match=r"tokens that are not in its vocabulary: 'ask …'\. Take them out"):
        publish(settings(source), tmp_path / "folder")
