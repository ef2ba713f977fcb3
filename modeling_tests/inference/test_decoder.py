"""The optimized decoder: what it is made of, and the same answers as before."""

import pytest
import torch

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, tiny_model
from transformers_fastvlm import FastVLMForConditionalGeneration, cpu_kernels
from transformers_fastvlm.inference import Int8Linear, PackedLinear, optimize_for_inference
from transformers_fastvlm.inference.linear_layers import int8_is_fast, packing_is_fast

pytestmark = pytest.mark.usefixtures("nan_in_uninitialized_memory")

needs_bfloat16 = pytest.mark.skipif(not packing_is_fast(torch.bfloat16), reason="this CPU has no bfloat16 kernels")


def prompt(padded: bool = False) -> dict[str, torch.Tensor]:
    """Two prompts with an image each, the first shorter if `padded`."""
    pictures = [IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE
    input_ids = torch.tensor(
        [[0 if padded else 9, 0 if padded else 8, 5, *pictures, 7, 8], [3, 4, 5, *pictures, 6, 9]]
    )
    pixels = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long(), "pixel_values": pixels}


def kinds(model) -> dict[str, type]:
    return {name: type(layer) for name, layer in model.named_modules()}


def test_linear_layers_but_the_head_are_packed_and_saved_as_plain_ones(tmp_path):
    model = tiny_model()
    expected = model.state_dict()
    optimize_for_inference(model, encoder="eager")
    packed = [name for name, kind in kinds(model).items() if kind is PackedLinear]
    assert len(packed) == 2 * 7 + 2
    assert kinds(model)["lm_head"] is torch.nn.Linear
    model.save_pretrained(tmp_path)
    again = FastVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.get_text_config()._attn_implementation == "sdpa"
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static"}, {"num_beams": 2}, {"use_cache": False}])
def test_answers_stay_the_same(options, padded):
    model = tiny_model()
    expected = model.generate(**prompt(padded), max_new_tokens=8, do_sample=False, **options)
    optimize_for_inference(model, encoder="eager")
    assert torch.equal(model.generate(**prompt(padded), max_new_tokens=8, do_sample=False, **options), expected)


@needs_bfloat16
@torch.no_grad()
@pytest.mark.parametrize(("padded", "calls"), [(False, 2), (True, 0)])
def test_bfloat16_without_a_mask_takes_the_faster_attention(monkeypatch, padded, calls):
    exact, model = tiny_model(), tiny_model().to(torch.bfloat16)
    inputs = prompt(padded)
    before = model(**inputs).logits.float()
    optimize_for_inference(model, encoder="eager")
    used, attention = [], cpu_kernels.cpu_attention

    def noted(*args, is_causal, **kwargs):
        used.append(is_causal)  # the decoder's is, and the encoder's is not
        return attention(*args, is_causal=is_causal, **kwargs)

    monkeypatch.setattr(cpu_kernels, "cpu_attention", noted)
    after = model(**inputs).logits.float()
    assert sum(used) == calls
    seen = inputs["attention_mask"].bool()
    expected = exact(**inputs).logits
    error, its_error = ((logits - expected)[seen].norm() / expected[seen].norm() for logits in (after, before))
    assert error < 1.5 * its_error + 1e-3


def test_other_attention_stays():
    model = tiny_model()
    model.set_attn_implementation("eager")
    optimize_for_inference(model, encoder="eager")
    assert model.model.language_model.config._attn_implementation == "eager"


@pytest.mark.skipif(not int8_is_fast(), reason="int8 is for CPUs with VNNI instructions")
def test_int8_takes_the_decoders_linear_layers_but_the_head(tmp_path):
    model = tiny_model(hidden_size=64, intermediate_size=128)
    with torch.no_grad():
        expected = model(**prompt()).logits
        optimize_for_inference(model, encoder="eager", int8=["decoder"])
        difference = (model(**prompt()).logits - expected).norm() / expected.norm()
    assert 0 < difference < 0.1
    found = kinds(model)
    assert sum(kind is Int8Linear for kind in found.values()) == 2 * 7
    assert found["lm_head"] is torch.nn.Linear
    assert found["model.multi_modal_projector.linear_1"] is PackedLinear
    with pytest.raises(RuntimeError, match="cannot be saved"):
        model.save_pretrained(tmp_path)


@pytest.mark.skipif(not int8_is_fast(), reason="int8 is for CPUs with VNNI instructions")
def test_int8_after_a_call_without_it_is_an_error():
    model = tiny_model()
    optimize_for_inference(model, encoder="eager")
    with pytest.raises(ValueError, match="load the model anew for int8"):
        optimize_for_inference(model, encoder="eager", int8=["decoder"])
