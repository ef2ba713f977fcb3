"""Original, upstream and own checkpoints: configurations, tensors, and what goes wrong with them."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, FastVlmConfig

from conftest import assert_close_to_largest, seeded_image
from tiny_models import tiny_model, write_tiny_checkpoint
from transformers_fastvlm import (
    AutoModelForVision2Seq,
    FastViTHDConfig,
    FastViTHDModel,
    FastVLMConfig,
    FastVLMForConditionalGeneration,
)
from transformers_fastvlm.checkpoint_files import tensor_headers
from transformers_fastvlm.checkpoint_formats import has_training_form, to_own_config


@pytest.fixture
def original_config(golden) -> dict:
    return json.loads((golden / "original" / "config.json").read_text())


@pytest.fixture(scope="module")
def golden_inputs(golden_outputs) -> dict[str, torch.Tensor]:
    ids = []
    for token in golden_outputs["vlm_two_images_input_ids"][0].tolist():
        ids += [151646] * 64 if token == -200 else [token]
    pixels = torch.cat([seeded_image(512, 11), seeded_image(512, 12)])
    return {"input_ids": torch.tensor([ids]), "pixel_values": pixels}


LOADERS = [
    AutoModelForVision2Seq,
    AutoModelForImageTextToText,
    AutoModelForCausalLM,
    FastVLMForConditionalGeneration,
]


@torch.no_grad()
@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
def test_original_folder_gives_the_originals_logits(loader, original_folder, golden_inputs, golden_outputs):
    model = loader.from_pretrained(original_folder, dtype=torch.float32)
    assert type(model) is FastVLMForConditionalGeneration
    logits = model(**golden_inputs, logits_to_keep=1).logits[:, -1]
    assert_close_to_largest(logits, golden_outputs["vlm_two_images_last_logits"])


@torch.no_grad()
def test_original_in_shards_and_saved_as_own(original_folder, golden_inputs, golden_outputs, tmp_path):
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    shutil.copyfile(original_folder / "config.json", sharded / "config.json")
    tensors = load_file(original_folder / "model.safetensors")
    weight_map = {name: f"model-0000{1 + index % 3}-of-00003.safetensors" for index, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, sharded / file)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    model = AutoModelForVision2Seq.from_pretrained(sharded, dtype=torch.float32)
    logits = model(**golden_inputs, logits_to_keep=1).logits
    assert_close_to_largest(logits[:, -1], golden_outputs["vlm_two_images_last_logits"])

    model.save_pretrained(tmp_path / "own")
    own = AutoModelForVision2Seq.from_pretrained(tmp_path / "own", dtype=torch.float32)
    assert_close_to_largest(own(**golden_inputs, logits_to_keep=1).logits, logits, 1e-6)
    names = set(tensor_headers(tmp_path / "own" / "model.safetensors"))
    assert names == set(own.state_dict())
    own.save_pretrained(tmp_path / "again")
    first, second = (load_file(tmp_path / folder / "model.safetensors") for folder in ("own", "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    encoder = FastViTHDModel.from_pretrained(tmp_path / "own")
    assert torch.equal(encoder.projection, own.model.vision_tower.projection)


def test_own_names_follow_the_transformers_convention(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    names = set(tensor_headers(tmp_path / "model.safetensors"))
    assert {name.split(".")[0] for name in names} == {"model", "lm_head"}
    assert {name.split(".")[1] for name in names} == {
        "vision_tower",
        "multi_modal_projector",
        "language_model",
        "weight",
    }
    assert {
        "model.multi_modal_projector.linear_1.weight",
        "model.language_model.layers.0.self_attn.q_proj.weight",
    } < names
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "fastvlm"


@pytest.mark.parametrize("reparameterized", [True, False])
def test_save_load_save_is_exact(reparameterized, tmp_path):
    model = tiny_model(vision={"reparameterized": reparameterized})
    model.save_pretrained(tmp_path / "first")
    weights = "model.safetensors"
    for source, target in [("first", "second"), ("second", "third")]:
        FastVLMForConditionalGeneration.from_pretrained(tmp_path / source).save_pretrained(tmp_path / target)
        assert (tmp_path / source / weights).read_bytes() == (tmp_path / target / weights).read_bytes()
    assert (tmp_path / "second/config.json").read_text() == (tmp_path / "third/config.json").read_text()


def test_stop_tokens_and_silent_generation_defaults(original_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(original_folder / name)
    original = {"do_sample": True, "temperature": None, "top_p": None, "transformers_version": "4.39.3"}
    (tmp_path / "generation_config.json").write_text(json.dumps(original))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = AutoModelForVision2Seq.from_pretrained(tmp_path, dtype=torch.bfloat16)
        model.generation_config.validate(strict=True)
    assert model.generation_config.eos_token_id == [151645, 151643]
    assert model.generation_config.pad_token_id == 151643
    assert model.generation_config.do_sample
    model.lm_head.weight.data.zero_()
    model.lm_head.weight.data[151645] = 1.0
    ids = torch.tensor([[5, 6, 7]])
    norm = model.model.language_model.norm
    norm.register_forward_hook(lambda module, args, output: output.abs() + 10)
    assert model.generate(input_ids=ids, do_sample=False, max_new_tokens=20).shape == (1, 4)


def test_lm_head_is_untied_whatever_the_configuration_says(original_folder, original_config, tmp_path):
    (tmp_path / "model.safetensors").symlink_to(original_folder / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(original_config | {"tie_word_embeddings": True}))
    model = AutoModelForVision2Seq.from_pretrained(tmp_path)
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    model.save_pretrained(tmp_path / "own")
    assert "lm_head.weight" in set(tensor_headers(tmp_path / "own" / "model.safetensors"))


def test_remote_code_in_a_checkpoint_is_never_run(original_folder, original_config, tmp_path):
    (tmp_path / "model.safetensors").symlink_to(original_folder / "model.safetensors")
    auto_map = {"AutoConfig": "llava_qwen.LlavaConfig", "AutoModelForCausalLM": "llava_qwen.LlavaQwen2ForCausalLM"}
    (tmp_path / "config.json").write_text(json.dumps(original_config | {"auto_map": auto_map}))
    (tmp_path / "llava_qwen.py").write_text("raise SystemExit('remote code ran')")
    for arguments in ({}, {"trust_remote_code": True}, {"trust_remote_code": False}):
        model = AutoModelForCausalLM.from_pretrained(tmp_path, **arguments)
        assert type(model) is FastVLMForConditionalGeneration


# Configurations.


def test_original_configuration(original_config):
    config = FastVLMConfig(**to_own_config(original_config))
    assert config.vision_config.image_size == 1024
    assert config.image_seq_length == 256
    assert config.text_config.num_hidden_layers == 2
    assert config.text_config.rope_parameters["rope_theta"] == 1e6
    assert config.text_config.eos_token_id == [151645, 151643]
    assert not hasattr(config, "mm_vision_tower")
    assert not hasattr(config.text_config, "mm_hidden_size")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mm_vision_tower": "openai/clip-vit-large-patch14-336"},
            "openai/clip-vit-large-patch14-336.*mobileclip_l_1024",
        ),
        ({"mm_vision_tower": None}, "names no vision tower"),
        ({"mm_projector_type": "linear"}, "'linear'.*mlp2x_gelu"),
    ],
)
def test_unknown_parts_of_an_original_configuration(changes, message, original_config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(original_config | changes))
    for loader in (FastVLMConfig, FastViTHDConfig, AutoModelForVision2Seq):
        with pytest.raises(ValueError, match=message):
            loader.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 151646),
        ({"added_tokens.json": {"<|endoftext|>": 151643, "<|im_end|>": 151645}}, 151646),
        ({"added_tokens.json": {"<|endoftext|>": 151643, "<|object_ref_start|>": 151646, "<x>": 151664}}, 151665),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"151664": {"content": "<x>"}}}}, 151665),
        (
            {
                "tokenizer.json": {
                    "model": {"vocab": {"a": 0, "b": 1}},
                    "added_tokens": [{"content": "<image>", "id": 700}, {"content": "<x>", "id": 800}],
                }
            },
            700,
        ),
    ],
)
def test_placeholder_is_the_tokenizers_first_free_id(files, expected, original_config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(original_config))
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert FastVLMConfig.from_pretrained(tmp_path).image_token_id == expected


def test_upstream_configuration():
    upstream = FastVlmConfig(text_config={"model_type": "qwen2", "eos_token_id": 151643}, image_seq_length=256)
    config = FastVLMConfig(**to_own_config(upstream.to_dict()))
    assert config.vision_config.image_size == 1024
    assert config.vision_config.projection_dim is None
    assert config.text_config.eos_token_id == [151645, 151643]
    assert config.image_token_id == 151646
    other = upstream.to_dict()
    other["vision_config"]["architecture"] = "vit_base_patch16_224"
    with pytest.raises(ValueError, match="vit_base_patch16_224"):
        to_own_config(other)


@pytest.mark.parametrize("text_config", [5, "qwen2", [[]], [["a", 1]]])
def test_an_upstream_configuration_whose_decoder_is_no_object_is_refused(text_config):
    with pytest.raises(ValueError, match="wrong kind"):
        to_own_config({"model_type": "fast_vlm", "text_config": text_config})


@pytest.mark.parametrize("model_type", [[], 3, {"fastvlm": 1}])
def test_a_model_type_that_is_no_name_is_refused(model_type, tmp_path):
    folder = write_tiny_checkpoint(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    for loader in (FastVLMConfig, FastVLMForConditionalGeneration):
        with pytest.raises(ValueError, match="`model_type` must be a string"):
            loader.from_pretrained(folder)


def test_own_configurations_pass_through():
    config = tiny_model().config.to_dict()
    assert to_own_config(config) is config


def test_training_form_is_told_from_names(golden):
    for name, expected in [("tensor_shapes", False), ("tensor_shapes_training_form", True)]:
        names = json.loads((golden / "original" / f"{name}.json").read_text())
        assert has_training_form(names) == expected
    for reparameterized in (True, False):
        names = tiny_model(vision={"reparameterized": reparameterized}).state_dict()
        assert has_training_form(names) != reparameterized


# Damaged checkpoints.


@pytest.fixture
def own_folder(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "model.language_model.layers.1.mlp.up_proj.weight",
        "model.vision_tower.stages.2.blocks.1.layer_scale",
        "model.multi_modal_projector.linear_2.bias",
    ],
)
def test_missing_tensor_is_named(own_folder, name):
    tensors = load_file(own_folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, own_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks tensors that FastVLMForConditionalGeneration needs: {name}"):
        AutoModelForVision2Seq.from_pretrained(own_folder)


def test_missing_tensor_of_a_base_model_is_named(tmp_path):
    for model in (tiny_model().model, tiny_model().model.vision_tower):
        model.save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        name = next(name for name in tensors if name.endswith("fc1.bias"))
        del tensors[name]
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=f"lacks tensors that {type(model).__name__} needs: {name}"):
            type(model).from_pretrained(tmp_path)
        _, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
        assert info["missing_keys"] == {name}


def test_misshapen_tensor_is_named(own_folder):
    tensors = load_file(own_folder / "model.safetensors")
    tensors["model.multi_modal_projector.linear_1.weight"] = torch.zeros(32, 77)
    save_file(tensors, own_folder / "model.safetensors", metadata={"format": "pt"})
    message = r"multi_modal_projector\.linear_1\.weight is \(32, 77\) and should be \(32, 128\)"
    with pytest.raises(ValueError, match=message):
        AutoModelForVision2Seq.from_pretrained(own_folder)
    model = AutoModelForVision2Seq.from_pretrained(own_folder, ignore_mismatched_sizes=True)
    assert model.model.multi_modal_projector.linear_1.weight.shape == (32, 128)


@pytest.mark.parametrize("kept", [5, 200, 100_000])
def test_truncated_file_is_named(own_folder, kept):
    file = own_folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:kept])
    expected = "ends before the whole of tensor '" if kept > 10_000 else "ends within its header"
    with pytest.raises(ValueError, match=f"model.safetensors is truncated.*{expected}"):
        AutoModelForVision2Seq.from_pretrained(own_folder)


def test_damaged_header(own_folder):
    file = own_folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[8:20] = b"not JSON at all"[:12]
    file.write_bytes(content)
    with pytest.raises(ValueError, match="header is damaged"):
        AutoModelForVision2Seq.from_pretrained(own_folder)


def test_missing_shard_is_named(own_folder):
    model = FastVLMForConditionalGeneration.from_pretrained(own_folder)
    model.save_pretrained(own_folder / "sharded", max_shard_size="50KB")
    shard = sorted((own_folder / "sharded").glob("model-00002-of-*"))[0]
    shard.unlink()
    with pytest.raises(OSError, match=shard.name):
        AutoModelForVision2Seq.from_pretrained(own_folder / "sharded")


def test_pickled_weights_are_not_loaded_unless_asked(own_folder):
    tensors = load_file(own_folder / "model.safetensors")
    (own_folder / "model.safetensors").unlink()
    torch.save(tensors, own_folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AutoModelForVision2Seq.from_pretrained(own_folder)
    model = AutoModelForVision2Seq.from_pretrained(own_folder, use_safetensors=False)
    assert torch.equal(model.lm_head.weight, tensors["lm_head.weight"])


def test_tensor_names_reads_the_header(own_folder):
    path = own_folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        assert sorted(tensor_headers(path)) == sorted(file.keys())


def test_base_checkpoint_may_lack_the_head(tmp_path):
    tiny_model().model.save_pretrained(tmp_path)
    model = FastVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.isfinite(model.lm_head.weight).all()


def test_loading_arguments_reach_the_model(own_folder):
    model, info = FastVLMForConditionalGeneration.from_pretrained(
        own_folder, dtype=torch.bfloat16, attn_implementation="eager", output_loading_info=True
    )
    assert model.dtype == torch.bfloat16
    assert model.config.text_config._attn_implementation == "eager"
    assert model.config.vision_config._attn_implementation == "eager"
    assert not info["missing_keys"]
    model = FastVLMForConditionalGeneration.from_pretrained(own_folder, vision_config={"drop_path_rate": 0.1})
    assert model.config.vision_config.drop_path_rate == 0.1
    assert model.config.vision_config.depths == [1, 1, 2, 1, 1]
