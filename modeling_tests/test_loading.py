"""Loading: nothing missing, nothing left over, and damaged or hostile files are refused by name."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageTextToText

from tiny_models import write_tiny_checkpoint
from transformers_fastvlm import (
    FastViTHDBackbone,
    FastViTHDModel,
    FastVLMConfig,
    FastVLMForConditionalGeneration,
    FastVLMModel,
)
from transformers_fastvlm.checkpoint_files import tensor_headers, weight_files
from transformers_fastvlm.checkpoint_formats import find_image_token_id


@pytest.fixture
def folder(tmp_path):
    return write_tiny_checkpoint(tmp_path / "checkpoint")


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_config(folder, part: str | None, **values):
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(values)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("part", "values", "named"),
    [
        ("text_config", {"num_hidden_layers": 1, "layer_types": ["full_attention"]}, "language_model.layers.1."),
        ("text_config", {"model_type": "llama"}, "self_attn.k_proj.bias"),
        (None, {"projector_bias": False}, "multi_modal_projector.linear_1.bias"),
        ("vision_config", {"depths": [1, 1, 1, 1, 1]}, "vision_tower.stages.2.blocks.1."),
    ],
)
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForImageTextToText])
def test_stored_tensors_without_a_place_are_named(folder, part, values, named, auto_class):
    change_config(folder, part, **values)
    with pytest.raises(ValueError, match="no place for") as error:
        auto_class.from_pretrained(folder)
    assert named in str(error.value)


def test_a_tensor_of_another_name_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.language_model.layers.0.self_attn.extra.weight"] = torch.ones(2)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="self_attn.extra.weight"):
        FastVLMForConditionalGeneration.from_pretrained(folder)
    _, info = FastVLMForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert info["unexpected_keys"] == {"model.language_model.layers.0.self_attn.extra.weight"}
    with pytest.raises(ValueError, match="self_attn.extra.weight"):
        FastVLMModel.from_pretrained(folder)


def test_what_is_left_out_on_purpose_is_no_error(folder, recwarn):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.language_model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    FastVLMForConditionalGeneration.from_pretrained(folder)
    FastVLMModel.from_pretrained(folder)
    FastViTHDBackbone.from_pretrained(folder)
    FastViTHDModel.from_pretrained(folder)
    change_config(folder, "vision_config", projection_dim=None)
    FastVLMForConditionalGeneration.from_pretrained(folder)
    assert FastViTHDModel.from_pretrained(folder).projection is None


def test_a_decoders_tensors_are_no_strangers_to_any_loader(folder):
    model = FastVLMForConditionalGeneration.from_pretrained(folder)
    patterns = [
        pattern
        for module in model.modules()
        for pattern in getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ()
    ]
    assert not any("language_model" in pattern or "lm_head" in pattern for pattern in patterns)


def test_pickled_weights_are_checked_as_well(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tensors.pop("model.language_model.layers.1.mlp.up_proj.weight")
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        FastVLMForConditionalGeneration.from_pretrained(folder, use_safetensors=False)


@pytest.mark.parametrize(
    "header",
    [
        [],
        None,
        "text",
        {"w": []},
        {"w": None},
        {"w": {"dtype": "F32", "shape": [1]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": None}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"w": {"dtype": None, "shape": [1], "data_offsets": [0, 4]}},
    ],
)
def test_damaged_headers_name_the_file(folder, header):
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(ValueError, match=r"model\.safetensors is (no safetensors file|damaged)"):
        FastVLMForConditionalGeneration.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        list(tensor_headers(folder / "model.safetensors"))


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 64, struct.pack("<Q", 4) + b"{{{{", b"[" * 5000])
def test_garbage_in_place_of_weights_names_the_file(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is"):
        FastVLMForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "/tmp/a.safetensors", "../other/model.safetensors", "a/../../b.safetensors", "..\\b.safetensors",
     "C:\\b.safetensors", "model.bin", "", "https://host/model.safetensors"],
)  # fmt: skip
def test_an_index_that_leads_elsewhere_is_refused(folder, name):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": name}})
    )
    with pytest.raises(ValueError, match="is no safetensors file of this checkpoint"):
        FastVLMForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        "x",
        {},
        {"weight_map": {}},
        *({"metadata": {}, "weight_map": odd} for odd in ([], {}, {"w": 3}, None)),
    ],
)
def test_a_damaged_index_is_named(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        FastVLMForConditionalGeneration.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        weight_files(folder)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"', "{", "\udcff", "[" * 5000])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_damaged_json_files_are_named(folder, name, content):
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"{name} is damaged".replace(".", r"\.")):
        FastVLMForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", []),
        ("tokenizer.json", {"model": []}),
        ("tokenizer.json", {"model": {"vocab": {"a": "b"}}}),
        ("tokenizer.json", {"model": {"vocab": {}}, "added_tokens": [3]}),
        ("vocab.json", []),
        ("added_tokens.json", {"a": None}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "y"}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
    ],
)
def test_a_damaged_tokenizer_is_named_where_its_ids_are_read(tmp_path, name, content):
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="damaged"):
        find_image_token_id(tmp_path, {})


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_weights_of_integers_are_no_weights(folder, dtype):
    tensors = load_file(folder / "model.safetensors")
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no floating-point numbers.*layers\.0\.mlp\.up_proj\.weight"):
        FastVLMForConditionalGeneration.from_pretrained(folder)
    FastViTHDModel.from_pretrained(folder)  # has nothing to do with it


@pytest.mark.parametrize(
    "changes",
    [{"dtype": "F33"}, {"shape": [3]}, {"data_offsets": [0, 8]}, {"data_offsets": [4, 12]}, {"shape": [2**40]}],
)
def test_headers_that_contradict_themselves_name_the_file(folder, changes):
    text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(12))
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        FastVLMForConditionalGeneration.from_pretrained(folder)


def test_a_good_checkpoint_still_loads(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert isinstance(model, FastVLMForConditionalGeneration)
    assert isinstance(FastVLMConfig.from_pretrained(folder), FastVLMConfig)
