import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, LlamaConfig

from tiny_models import TINY_TEXT, tiny_config
from transformers_fastvlm import FastViTHDConfig, FastVLMConfig
from transformers_fastvlm.checkpoint_formats import to_own_config
from transformers_fastvlm.configuration_fastvlm import FASTVITHD_FAMILY


def test_defaults_are_fastvithd_and_fastvlm_0_5b():
    config = FastVLMConfig()
    assert config.vision_config.depths == [2, 12, 24, 4, 2]
    assert (config.vision_config.stride, config.vision_config.hidden_size) == (64, 3072)
    assert (config.text_config.model_type, config.text_config.hidden_size) == ("qwen2", 896)
    assert (config.image_token_id, config.image_seq_length) == (151646, 256)
    assert not config.tie_word_embeddings


@pytest.mark.parametrize(("resolution", "tokens"), [(256, 16), (512, 64), (768, 144), (1024, 256), (1536, 576)])
def test_visual_tokens_per_resolution(resolution, tokens):
    assert FastVLMConfig(vision_config={"image_size": resolution}).image_seq_length == tokens


@pytest.mark.parametrize(("size", "stride"), [("mci0", 32), ("mci2", 32), ("mci3", 64), ("mci4", 64)])
def test_strides_of_the_family(size, stride):
    assert FastViTHDConfig(**FASTVITHD_FAMILY[size]).stride == stride


def test_saved_and_loaded_configuration_is_equal(tmp_path):
    config = tiny_config({"out_features": ["stage2", "stage4"]})
    config.save_pretrained(tmp_path)
    for loaded in (FastVLMConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert loaded.to_diff_dict() == config.to_diff_dict()
    vision = FastViTHDConfig.from_pretrained(tmp_path)
    assert vision.hidden_sizes == config.vision_config.hidden_sizes
    assert vision.out_features == ["stage2", "stage4"]


def test_any_decoder_configuration_is_taken():
    config = FastVLMConfig(text_config=LlamaConfig(vocab_size=200), image_token_id=7)
    assert FastVLMConfig(**config.to_dict()).text_config.model_type == "llama"


def test_tied_decoder_ties_the_whole():
    assert FastVLMConfig(
        text_config={"vocab_size": 200, "tie_word_embeddings": True}, image_token_id=7
    ).tie_word_embeddings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depths": [1, 1]}, "one entry per stage"),
        ({"token_mixers": ["pooling"] * 5}, "'repmixer' and 'attention', got 'pooling'"),
        ({"hidden_sizes": [96, 192, 384, 770, 1536]}, "770 channels cannot be split"),
        ({"squeeze_excite_stages": [0]}, "squeeze_excite_stages"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"attention_norm": "instance_norm"}, "attention_norm"),
        ({"out_features": ["stage9"]}, "stage9"),
    ],
)
def test_impossible_encoders_are_refused(values, message):
    with pytest.raises(Exception, match=message):
        FastViTHDConfig(**values)


def test_placeholder_outside_the_vocabulary_is_refused():
    with pytest.raises(Exception, match="image_token_id=300.*vocabulary of 200"):
        FastVLMConfig(text_config={"vocab_size": 200}, image_token_id=300)


def test_the_parts_have_the_files_dtype(tmp_path, golden):
    tiny_config().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "bfloat16"}))
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.dtype == config.text_config.dtype == config.vision_config.dtype == torch.bfloat16
    own = FastVLMConfig(text_config={**TINY_TEXT, "dtype": "float16"}, image_token_id=99, dtype="bfloat16")
    assert own.text_config.dtype == torch.float16
    original = AutoConfig.from_pretrained(golden / "original")
    assert original.dtype == original.text_config.dtype == original.vision_config.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("vision_config", {"depths": [1, 1, 10**6, 1, 1]}, "depths"),
        ("vision_config", {"depths": 3}, "depths"),
        ("vision_config", {"hidden_sizes": []}, "hidden_sizes"),
        ("vision_config", {"hidden_sizes": [8, 16, 2, 32, 64]}, "hidden_sizes"),
        ("vision_config", {"hidden_sizes": [8, 2**63, 2, 32, 64]}, "hidden_sizes"),
        ("vision_config", {"expansion_ratio": 0}, "hidden_size"),
        ("vision_config", {"expansion_ratio": 1.3}, "expansion_ratio"),
        ("vision_config", {"mlp_ratio": float("nan")}, "mlp_ratio"),
        ("vision_config", {"mlp_ratio": 1e30}, "mlp_ratio"),
        ("vision_config", {"hidden_act": "x"}, "hidden_act"),
        ("vision_config", {"hidden_size": 5}, "`hidden_size` follows"),
        ("vision_config", {"dtype": "x"}, "dtype"),
        ("vision_config", {"out_indices": [None]}, "out_indices"),
        ("vision_config", {"out_indices": [9]}, "out_indices"),
        ("vision_config", {"out_features": 3}, "out_features"),
        ("text_config", {"model_type": "nope"}, "nope"),
        ("text_config", {"model_type": ["qwen2"]}, "model type"),
        ("text_config", {"num_key_value_heads": 3}, "num_key_value_heads"),
        ("text_config", {"num_attention_heads": 160}, "num_attention_heads"),
        ("text_config", {"hidden_size": 12}, "num_attention_heads"),
        ("text_config", {"num_hidden_layers": 10**9, "layer_types": None}, "num_hidden_layers"),
        ("text_config", {"hidden_act": "x"}, "hidden_act"),
        ("text_config", {"dtype": "x"}, "text_config"),
        (None, {"text_config": 5}, "text_config"),
        (None, {"vision_config": [1]}, "vision_config"),
        (None, {"projector_hidden_act": "x"}, "projector_hidden_act"),
        (None, {"dtype": 5}, "dtype"),
        (None, {"torch_dtype": "float33"}, "dtype"),
        (None, {"image_seq_length": 3}, "`image_seq_length` follows"),
        (None, {"id2label": "x"}, "wrong kind|'id2label'"),
    ],
)
def test_values_that_no_model_has_are_refused_by_name(part, values, message):
    config = tiny_config().to_dict()
    (config[part] if part else config).update(values)
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        FastVLMConfig.from_dict(config)


@pytest.mark.parametrize("config_class", [FastVLMConfig, FastViTHDConfig])
@pytest.mark.parametrize("content", [None, "{}"])
def test_a_folder_without_configuration_is_not_read_as_the_default_one(tmp_path, config_class, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(OSError, match=r"has no config\.json"):
        config_class.from_pretrained(tmp_path)


def test_derived_values_that_are_right_are_taken():
    config = FastVLMConfig.from_dict(tiny_config().to_dict() | {"image_seq_length": 4})
    assert config.image_seq_length == 4
    assert FastViTHDConfig(hidden_size=3072, stride=64).hidden_size == 3072


@pytest.mark.parametrize(
    "values",
    [{"mm_vision_tower": 3}, {"mm_vision_tower": ["mobileclip_l_1024"]}, {"mm_vision_tower": None},
     {"model_type": "fast_vlm", "vision_config": 3}, {"model_type": "fast_vlm", "vision_config": {"architecture": 3}},
     {"model_type": "fast_vlm", "text_config": 3}, {"model_type": "fast_vlm", "image_seq_length": "256"},
     {"model_type": "fast_vlm", "text_config": {"vocab_size": "many"}}],
)  # fmt: skip
def test_foreign_configurations_with_values_of_the_wrong_kind_are_refused(golden, values):
    original = json.loads((golden / "original" / "config.json").read_text())
    with pytest.raises(ValueError, match=r"wrong kind|vision tower"):
        to_own_config(original | values)
