# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A configuration is refused clearly, or a model of it can be built, used, and saved with it."""

import copy
import json
import tempfile

import torch
from hypothesis import strategies as st

from robustness.harness import Refused, attempt, fuzzed
from robustness.oracles import same
from robustness.strategies import Damaged, damaged_trees
from tiny_models import TINY_TEXT, tiny_config
from transformers_fastvlm import FastViTHDConfig, FastViTHDModel, FastVLMConfig, FastVLMForConditionalGeneration
from transformers_fastvlm.checkpoint_formats import to_own_config

# Entries that say what something is called or was made by, which no model is built from.
NOT_BUILT_FROM = {"architectures", "transformers_version", "_name_or_path", "id2label", "label2id", "problem_type"}
BUILDABLE = 3_000_000  # parameters


def plain(config) -> dict:
    values = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in values.items() if name not in NOT_BUILT_FROM}


TINY = tiny_config()
ENCODER = plain(TINY.vision_config)
WHOLE = {
    **{name: value for name, value in plain(TINY).items() if name not in ("vision_config", "text_config")},
    "vision_config": {
        name: ENCODER[name]
        for name in ("depths", "hidden_sizes", "token_mixers", "image_size", "projection_dim", "attention_head_dim")
    },
    "text_config": {"model_type": "qwen2", **TINY_TEXT, "max_position_embeddings": 256, "eos_token_id": 1},
}
ORIGINAL = {
    "model_type": "llava_qwen2",
    **TINY_TEXT,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "mm_vision_tower": "mobileclip_l_1024",
    "mm_projector_type": "mlp2x_gelu",
    "mm_hidden_size": 3072,
    "image_token_id": 99,
    "tokenizer_model_max_length": 8192,
    "rope_theta": 1e6,
    "torch_dtype": "float32",
}
UPSTREAM = {
    "model_type": "fast_vlm",
    "vision_config": {"model_type": "timm_wrapper", "architecture": "fastvit_mci3"},
    "text_config": {"model_type": "qwen2", **TINY_TEXT},
    "image_token_id": 99,
    "image_seq_length": 256,
    "projector_hidden_act": "gelu",
    "multimodal_projector_bias": True,
}


def assert_a_model_of_it_works(config, terms: list[str]) -> None:
    model_class = FastViTHDModel if isinstance(config, FastViTHDConfig) else FastVLMForConditionalGeneration

    def build(device: str):
        with torch.device(device):
            return model_class(copy.deepcopy(config)).eval()

    model = attempt(lambda: build("meta"), *terms)
    if isinstance(model, Refused) or sum(parameter.numel() for parameter in model.parameters()) > BUILDABLE:
        return
    model = build("cpu")
    encoder = model if isinstance(model, FastViTHDModel) else model.model.vision_tower
    side = 2 * encoder.config.stride
    if side > 256 or encoder.config.num_channels > 16:
        return
    inputs = {"pixel_values": torch.rand(1, encoder.config.num_channels, side, side)}
    if model is not encoder:
        inputs["input_ids"] = torch.tensor([[5, *[config.image_token_id] * 4, 7]])
    with torch.no_grad():
        outputs = attempt(lambda: model(**inputs), *terms)
    if not isinstance(outputs, Refused):
        assert torch.isfinite(outputs[0]).all()


@fuzzed(40, damaged=damaged_trees(WHOLE))
def test_a_damaged_configuration_is_refused_or_works(damaged):
    assert_is_refused_or_works(FastVLMConfig, damaged)


@fuzzed(40, damaged=damaged_trees(ENCODER))
def test_a_damaged_configuration_of_the_encoder_is_refused_or_works(damaged):
    assert_is_refused_or_works(FastViTHDConfig, damaged)


def assert_is_refused_or_works(config_class: type, damaged: Damaged) -> None:
    terms = [*damaged.names, *damaged.tree]
    config = attempt(lambda: config_class.from_dict(copy.deepcopy(damaged.tree)), *terms)
    if not isinstance(config, Refused):
        assert_is_saved(config)
        assert_a_model_of_it_works(config, terms)


def assert_is_saved(config) -> None:
    """A configuration is the same after it has been written to a file and read again."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        again = type(config).from_pretrained(folder)
    assert json.loads(again.to_json_string(use_diff=False)) == json.loads(config.to_json_string(use_diff=False))


@fuzzed(40, damaged=st.sampled_from([ORIGINAL, UPSTREAM]).flatmap(damaged_trees))
def test_a_damaged_foreign_configuration_is_refused_or_translated(damaged):
    given = copy.deepcopy(damaged.tree)
    config = attempt(lambda: FastVLMConfig.from_dict(to_own_config(given)), *damaged.names, *damaged.tree)
    assert same(given, damaged.tree)
    if not isinstance(config, Refused):
        assert_is_saved(config)
