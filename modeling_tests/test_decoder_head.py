"""Logits and losses are those of the decoder's own causal-LM class, whatever that does after its last layer."""

import copy

import pytest
import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

from tiny_models import TINY_TEXT, randomize, tiny_vision_config
from transformers_fastvlm import FastVLMConfig, FastVLMForConditionalGeneration

_SMALL = {**TINY_TEXT, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
DECODERS = {
    "qwen2": {},
    "llama": {},
    "granite": {"logits_scaling": 3.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5},
    "cohere": {"logit_scale": 0.25},
    "gemma2": {"final_logit_softcapping": 0.5, "head_dim": 8, "query_pre_attn_scalar": 8},
    "mixtral": {**_EXPERTS, "output_router_logits": True, "router_aux_loss_coef": 0.5},
    "qwen3_moe": {**_EXPERTS, "output_router_logits": True, "router_aux_loss_coef": 0.5, "head_dim": 8},
    "phi": {},  # its head has a bias
    "gpt2": {"n_positions": 64, "n_embd": 32, "n_head": 4, "n_layer": 2},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
}


def vlm_and_decoder(model_type: str):
    """A FastVLM and its decoder's own causal-LM class, with the same random weights."""
    text_config = {**_SMALL, "model_type": model_type, **DECODERS[model_type]}
    config = FastVLMConfig(vision_config=tiny_vision_config(), text_config=text_config, image_token_id=99)
    model = randomize(FastVLMForConditionalGeneration(config)).eval()
    own = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]](copy.deepcopy(config.text_config)).eval()
    own.base_model.load_state_dict(model.model.language_model.state_dict())
    own.get_output_embeddings().load_state_dict(model.lm_head.state_dict())
    return model, own


@pytest.mark.parametrize("model_type", DECODERS)
def test_logits_and_loss_are_the_own_classes(model_type):
    model, own = vlm_and_decoder(model_type)
    ids = torch.arange(2, 22).view(2, 10)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    labels = ids.masked_fill(mask == 0, -100)
    ours = model(input_ids=ids, attention_mask=mask, labels=labels)
    theirs = own(input_ids=ids, attention_mask=mask, labels=labels)
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.loss, theirs.loss)
    ours.loss.backward()
    theirs.loss.backward()
    torch.testing.assert_close(model.lm_head.weight.grad, own.get_output_embeddings().weight.grad)


@pytest.mark.parametrize("model_type", ["granite", "cohere", "gemma2"])
def test_generation_scores_are_the_own_classes(model_type):
    model, own = vlm_and_decoder(model_type)
    ids = torch.arange(2, 12)[None]
    options = {"max_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True, "output_scores": True}
    ours, theirs = (each.generate(input_ids=ids, **options) for each in (model, own))
    assert ours.sequences.tolist() == theirs.sequences.tolist()
    torch.testing.assert_close(torch.stack(ours.scores), torch.stack(theirs.scores))


def test_router_loss_is_part_of_the_loss():
    model, _ = vlm_and_decoder("mixtral")
    ids = torch.arange(2, 22).view(2, 10)
    with_router = model(input_ids=ids, labels=ids)
    without = model(input_ids=ids, labels=ids, output_router_logits=False)
    torch.testing.assert_close(with_router.loss, without.loss + 0.5 * with_router.aux_loss)
    assert with_router.aux_loss > 0


def test_head_follows_copies_resizing_and_adapters():
    model, _ = vlm_and_decoder("granite")
    ids = torch.arange(2, 12)[None]
    before = model(input_ids=ids).logits
    copied = copy.deepcopy(model)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    torch.testing.assert_close(copied(input_ids=ids).logits, before)
    assert not model(input_ids=ids).logits.any()
    copied.resize_token_embeddings(130)
    outputs = copied(input_ids=ids, labels=ids)
    assert outputs.logits.shape[-1] == 130
    torch.testing.assert_close(outputs.logits[..., :120], before)


def test_it_has_no_weights_of_its_own():
    model, _ = vlm_and_decoder("qwen2")
    assert not any("decoder_head" in name for name in model.state_dict())
    assert not any(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("model_type", ["clip_text_model", "t5"])
def test_what_is_no_causal_language_model_is_refused(model_type):
    text_config = {"model_type": model_type, "vocab_size": 120, "hidden_size": 32, "d_model": 32}
    with pytest.raises(ValueError, match="no causal language model"):
        FastVLMForConditionalGeneration(
            FastVLMConfig(vision_config=tiny_vision_config(), text_config=text_config, image_token_id=99)
        )
