"""On the device under test, encoder and model give the numbers of the CPU in float32, to within their dtype."""

import copy
import importlib.util

import pytest
import torch

from conftest import assert_close_to_largest, seeded_image
from device_under_test import DEVICE, TOLERANCES, moved, needs_accelerator, random_pixels
from test_modeling_fastvlm import PROMPTS, pad
from tiny_models import tiny_model
from transformers_fastvlm import FastViTHDModel, FastVLMForConditionalGeneration

pytestmark = pytest.mark.usefixtures("exact_float32")

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: str(dtype).removeprefix("torch."))
FORMS = pytest.mark.parametrize("reparameterized", [True, False], ids=["inference form", "training form"])
SIZES = [(1, 64, 64), (3, 128, 192), (2, 320, 64), (5, 192, 192), (1, 448, 576)]
# Heads as wide as the narrowest that flex_attention's kernels take.
TEXT = {"hidden_size": 64, "intermediate_size": 96}
ATTENTION = [
    "eager",
    "sdpa",
    pytest.param(
        "flex_attention",
        marks=pytest.mark.skipif(
            DEVICE.type == "cpu", reason="flex_attention needs a GPU to be worth its compilation"
        ),
    ),
    pytest.param(
        "flash_attention_2",
        marks=pytest.mark.skipif(
            DEVICE.type != "cuda" or importlib.util.find_spec("flash_attn") is None,
            reason="needs a CUDA GPU and the library flash-attn",
        ),
    ),
]


@pytest.fixture(scope="module")
def model() -> FastVLMForConditionalGeneration:
    return tiny_model(**TEXT)


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    return pad(PROMPTS, "left") | {"pixel_values": random_pixels(3)}


@torch.no_grad()
@FORMS
@DTYPES
def test_the_encoders_features(dtype, reparameterized):
    tower = tiny_model(vision={"reparameterized": reparameterized}).model.vision_tower
    images = [random_pixels(*size) for size in SIZES]
    expected = [tower(pixels, output_hidden_states=True) for pixels in images]
    tower.to(DEVICE, dtype)
    for pixels, output in zip(images, expected):
        actual = tower(pixels.to(DEVICE), output_hidden_states=True)
        assert actual.last_hidden_state.device.type == DEVICE.type
        assert actual.last_hidden_state.dtype == dtype
        for ours, theirs in zip(actual.to_tuple()[:2], output.to_tuple()[:2]):
            assert_close_to_largest(ours.float().cpu(), theirs, TOLERANCES[dtype])
        for ours, theirs in zip(actual.hidden_states, output.hidden_states):
            assert_close_to_largest(ours.float().cpu(), theirs, TOLERANCES[dtype])


@torch.no_grad()
@needs_accelerator
def test_the_full_size_encoder_gives_the_originals_outputs(original_folder, golden_outputs):
    tower = FastViTHDModel.from_pretrained(original_folder, dtype=torch.float32).to(DEVICE)
    outputs = tower(seeded_image(256, 256).to(DEVICE))
    assert_close_to_largest(outputs.last_hidden_state.cpu(), golden_outputs["encoder_256"])
    assert_close_to_largest(outputs.pooler_output.cpu(), golden_outputs["pooled_256"])
    tower.to(torch.bfloat16)
    features = tower(seeded_image(256, 256).to(DEVICE)).last_hidden_state
    assert_close_to_largest(features.float().cpu(), golden_outputs["encoder_256"], TOLERANCES[torch.bfloat16])


@torch.no_grad()
@FORMS
def test_reparameterizing_on_the_device(reparameterized):
    tower = tiny_model(vision={"reparameterized": reparameterized}).model.vision_tower
    pixels = random_pixels(2)
    expected = tower(pixels).last_hidden_state
    tower.to(DEVICE).reparameterize()
    assert_close_to_largest(tower(pixels.to(DEVICE)).last_hidden_state.cpu(), expected)


@torch.no_grad()
@DTYPES
@pytest.mark.parametrize("implementation", ATTENTION)
def test_the_models_scores(model, batch, implementation, dtype):
    if implementation.startswith("flash") and dtype == torch.float32:
        pytest.skip("flash-attn has no float32")
    expected = model(**batch).logits
    model = copy.deepcopy(model)
    model.set_attn_implementation(implementation)
    model.to(DEVICE, dtype)
    if dtype == torch.float16:
        model.model.vision_tower.float()  # as `from_pretrained` leaves it
    logits = model(**moved(batch)).logits
    assert logits.dtype == dtype
    seen = batch["attention_mask"].bool()  # scores at padding mean nothing
    assert_close_to_largest(logits.float().cpu()[seen], expected[seen], TOLERANCES[dtype])
    prompts = {name: tensor[:1] for name, tensor in batch.items()} | {"pixel_values": batch["pixel_values"][:2]}
    alone = model(**moved(prompts)).logits
    assert_close_to_largest(alone.float().cpu(), expected[:1], TOLERANCES[dtype])


@torch.no_grad()
def test_float16_keeps_the_encoder_in_float32(batch, tmp_path):
    tiny_model(**TEXT).save_pretrained(tmp_path)
    model = FastVLMForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float16).eval()
    expected = tiny_model(**TEXT)(**batch).logits
    model.to(DEVICE)
    assert {p.dtype for p in model.model.vision_tower.parameters()} == {torch.float32}
    assert model.lm_head.weight.dtype == torch.float16
    seen = batch["attention_mask"].bool()
    actual = model(**moved(batch)).logits.float().cpu()
    assert_close_to_largest(actual[seen], expected[seen], TOLERANCES[torch.float16])


@torch.no_grad()
@needs_accelerator
def test_pinned_pixels_that_are_still_being_copied_give_the_features(model):
    pixels = random_pixels(4, 320, 320)
    expected = model.get_image_features(pixels).pooler_output
    model = copy.deepcopy(model).to(DEVICE)
    arriving = pixels.pin_memory().to(DEVICE, non_blocking=True)
    assert_close_to_largest(model.get_image_features(arriving).pooler_output.cpu(), expected)


@torch.no_grad()
@needs_accelerator
@pytest.mark.parametrize("left", ["input_ids", "pixel_values"])
def test_inputs_that_were_left_on_the_cpu_are_an_error_that_names_the_device(model, batch, left):
    model = copy.deepcopy(model).to(DEVICE)
    inputs = moved(batch) | {left: batch[left]}
    with pytest.raises((RuntimeError, ValueError), match=DEVICE.type):
        model(**inputs)


@torch.no_grad()
def test_encoder_and_decoder_on_different_devices(model, batch):
    """Features go to where the prompt's embeddings are."""
    expected = model(**batch).logits
    split = copy.deepcopy(model)
    split.model.vision_tower.to(DEVICE)
    encoded = split.model.vision_tower(batch["pixel_values"].to(DEVICE)).last_hidden_state.cpu()
    features = split.model.multi_modal_projector(encoded.flatten(2).transpose(1, 2))
    image = {"image": type(model.get_image_features(batch["pixel_values"]))(pooler_output=features.to(DEVICE))}
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = split(**inputs, mm_encoder_outputs=image).logits
    seen = batch["attention_mask"].bool()
    assert_close_to_largest(logits[seen], expected[seen])
