"""Refusals on the device under test: what is refused there, and how often it is waited for."""

import pytest
import torch

from device_under_test import DEVICE, counted_waits, moved, needs_cuda, random_pixels
from test_finite_checks import IDS
from tiny_models import tiny_model

NAMES = ["model.vision_tower.stages.2.blocks.1.token_mixer.conv.weight", "lm_head.weight"]
FIRST_STEPS = 2
# A CPU's features are looked at before the decoder runs; a GPU is waited for once, at the first scores.
IMAGE_ERROR = (ValueError, "in crops") if DEVICE.type == "cpu" else (FloatingPointError, "first logits are not finite")


def prompt(images: int = 1) -> dict[str, torch.Tensor]:
    return moved({"input_ids": IDS.repeat(images, 1), "pixel_values": random_pixels(images)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_damaged_weights_are_named(name, value, dtype):
    model = tiny_model().to(DEVICE, dtype)
    with torch.no_grad():
        model.get_parameter(name).fill_(value)
    with pytest.raises(FloatingPointError, match=f"damaged: {name.removeprefix('model.vision_tower.')} |{name} "):
        model.generate(**prompt(), max_new_tokens=3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_damaged_pixels_are_an_error(value):
    inputs = prompt(2)
    inputs["pixel_values"][1, 2, 64, 64] = value
    error, message = IMAGE_ERROR
    with pytest.raises(error, match=message):
        tiny_model().to(DEVICE).generate(**inputs, max_new_tokens=3)


def test_an_encoder_in_float16_is_looked_at():
    tower = tiny_model().model.vision_tower.to(DEVICE, torch.float16)
    pixels = random_pixels(2).to(DEVICE)
    pixels[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"in crops \[1\]"):
        tower(pixels)


@pytest.mark.parametrize("value", [-1, 120])
def test_ids_outside_the_vocabulary_are_an_error_and_leave_the_device_usable(value):
    model, inputs = tiny_model().to(DEVICE), prompt()
    expected = model.generate(**inputs, max_new_tokens=2, do_sample=False)
    wrong = inputs["input_ids"].clone()
    wrong[0, 0] = value
    with pytest.raises(ValueError, match=f"has the id {value}, but the decoder's vocabulary is 0..119"):
        model.generate(input_ids=wrong, pixel_values=inputs["pixel_values"], max_new_tokens=2)
    assert torch.equal(model.generate(**inputs, max_new_tokens=2, do_sample=False), expected)


@pytest.fixture
def waits() -> dict[int, list[str]]:
    """By the number of new tokens, where `generate` has waited for the GPU."""
    model, inputs = tiny_model().to(DEVICE), prompt()
    options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    places = {}
    for count in (FIRST_STEPS, FIRST_STEPS, FIRST_STEPS + 8):  # the first only to warm up
        with counted_waits() as places[count]:
            model.generate(**inputs, min_new_tokens=count, max_new_tokens=count, **options)
    return places


@needs_cuda
def test_finite_checks_wait_once_for_each_prompt(waits):
    for places in waits.values():
        assert [place.split(":")[0] for place in places].count("finite_checks.py") == 1, places


@needs_cuda
def test_no_decoding_step_waits_for_a_check(waits):
    ours = {"finite_checks.py", "prompt_checks.py", "modeling_fastvlm.py", "modeling_fastvithd.py", "decoder_head.py"}
    few, many = ([place for place in places if place.split(":")[0] in ours] for places in waits.values())
    assert few == many


@needs_cuda
@torch.no_grad()
def test_the_encoder_waits_for_nothing():
    tower, pixels = tiny_model().model.vision_tower.to(DEVICE, torch.bfloat16), random_pixels(2).to(DEVICE)
    tower(pixels)
    with counted_waits() as waits:
        tower(pixels)
    assert waits == []
