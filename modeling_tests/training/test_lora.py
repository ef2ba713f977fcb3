"""Which layers LoRA adapts, and that the adapter goes from one checkpoint format to another."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, randomize, tiny_model, tiny_vision_config
from transformers_fastvlm import FastVLMConfig, FastVLMForConditionalGeneration
from transformers_fastvlm.training import lora_target_modules

peft = pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")


def adapted_names(model, **choice) -> set[str]:
    config = peft.LoraConfig(r=2, target_modules=lora_target_modules(model, **choice))
    adapted = peft.get_peft_model(model, config)
    return {name for name, module in adapted.base_model.model.named_modules() if hasattr(module, "lora_A")}


def linear_names(model, prefix: str) -> set[str]:
    return {
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name.startswith(prefix)
    }


def test_by_default_all_linear_layers_of_the_decoder_and_no_others():
    expected = linear_names(tiny_model(), "model.language_model.")
    assert len(expected) == 2 * 7
    assert adapted_names(tiny_model()) == expected


def test_projector_and_encoder_by_option():
    names = adapted_names(tiny_model(), decoder=False, projector=True)
    assert names == {"model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"}
    names = adapted_names(tiny_model(), decoder=False, encoder=True)
    assert names == linear_names(tiny_model(), "model.vision_tower.")
    assert {name.rpartition(".")[2] for name in names} == {"qkv", "proj"}


def test_a_decoder_of_another_architecture():
    text = LlamaConfig(
        vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    config = FastVLMConfig(vision_config=tiny_vision_config(), text_config=text, image_token_id=IMAGE_TOKEN_ID)
    model = FastVLMForConditionalGeneration(config)
    assert adapted_names(model) == linear_names(FastVLMForConditionalGeneration(config), "model.language_model.")


def test_nothing_chosen_is_refused():
    with pytest.raises(ValueError, match="at least one of"):
        lora_target_modules(tiny_model(), decoder=False)


@torch.no_grad()
def test_merged_equals_unmerged():
    model = peft.get_peft_model(
        tiny_model(),
        peft.LoraConfig(r=4, target_modules=lora_target_modules(tiny_model(), projector=True, encoder=True)),
    ).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    inputs = {
        "input_ids": torch.tensor([[5, *[IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE, 7, 8]]),
        "pixel_values": torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)),
    }
    unmerged = model(**inputs).logits
    with model.disable_adapter():
        assert not torch.allclose(model(**inputs).logits, unmerged, atol=1e-2)
    merged = model.merge_and_unload()(**inputs).logits
    torch.testing.assert_close(merged, unmerged, atol=1e-4, rtol=1e-4)


def test_the_adapter_keeps_its_choice(tmp_path):
    """The regular expression in `adapter_config.json` finds the same layers in a new process's model."""
    model = peft.get_peft_model(tiny_model(), peft.LoraConfig(r=2, target_modules=lora_target_modules(tiny_model())))
    randomize(model, seed=1)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(tiny_model(), tmp_path)
    ours, theirs = peft.get_peft_model_state_dict(model), peft.get_peft_model_state_dict(again)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
