"""NaN and infinities are refused while answering, saying where they come from."""

import pytest
import torch

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, tiny_model

IDS = torch.tensor([[2, 3, *[IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE, 4, 5]])
PARTS = {
    "model.vision_tower.stages.2.blocks.1.token_mixer.conv.weight": "stages.2.blocks.1.token_mixer.conv.weight",
    "model.multi_modal_projector.linear_1.bias": "model.multi_modal_projector.linear_1.bias",
    "model.language_model.layers.1.mlp.up_proj.weight": "model.language_model.layers.1.mlp.up_proj.weight",
    "lm_head.weight": "lm_head.weight",
}


@pytest.fixture
def pixels():
    return torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_damaged_weights_are_named(pixels, name, value, dtype):
    model = tiny_model().to(dtype)
    with torch.no_grad():
        model.get_parameter(name).fill_(value)
    with pytest.raises(FloatingPointError, match=f"damaged: {PARTS[name]} "):
        model.generate(input_ids=IDS, pixel_values=pixels, max_new_tokens=3)


def test_damaged_statistics_are_named(pixels):
    model = tiny_model()
    next(b for name, b in model.named_buffers() if name.endswith("running_var")).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="running_var has NaN"):
        model.generate(input_ids=IDS, pixel_values=pixels, max_new_tokens=3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_damaged_pixels_are_said_by_crop(pixels, value):
    batch = torch.cat([pixels, pixels])
    batch[1, 2, 64, 64] = value
    model = tiny_model()
    with pytest.raises(ValueError, match=r"NaN or infinite values, in crops \[1\]"):
        model.generate(input_ids=IDS.repeat(2, 1), pixel_values=batch, max_new_tokens=3)
    with pytest.raises(ValueError, match=r"in crops \[1\]"):
        model.model.vision_tower(batch)


def test_damaged_embeddings_are_refused():
    model = tiny_model()
    embeds = torch.full((1, 5, 32), float("nan"))
    with pytest.raises(FloatingPointError, match="prompt's embeddings"):
        model.generate(inputs_embeds=embeds, max_new_tokens=3)


def test_training_is_left_to_whoever_scales_gradients(pixels):
    model = tiny_model().train()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    outputs = model(input_ids=IDS, pixel_values=pixels, labels=IDS)
    assert outputs.loss.isnan()
