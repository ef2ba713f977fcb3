"""The torchvision image processor on the device under test gives Pillow's pixels."""

import pytest
import torch
from PIL import Image

from device_under_test import BUNDLED, DEVICE, TASKS, needs_accelerator
from transformers_fastvlm import FastVLMImageProcessorPil

pytest.importorskip("torchvision", reason="its processor needs torchvision (the `vision` extra)")

from transformers_fastvlm import FastVLMImageProcessor


def pictures() -> list[Image.Image]:
    return [Image.open(BUNDLED / "images" / task["image"]) for task in TASKS]


@pytest.mark.parametrize("options", [{}, {"do_tile": True}, {"do_pad": False, "do_center_crop": True}], ids=str)
def test_pixels_are_within_two_steps_of_pillows(options):
    for size, picture in [(192, each) for each in pictures()] + [(384, pictures()[0].resize((1031, 677)))]:
        sizes = {"size": size} | ({"crop_size": size} if "do_center_crop" in options else {})
        expected = FastVLMImageProcessorPil(**sizes, **options)(picture, return_tensors="pt")
        actual = FastVLMImageProcessor(**sizes, **options)(picture, return_tensors="pt", device=DEVICE)
        assert actual["pixel_values"].device.type == DEVICE.type
        assert actual["pixel_values"].shape == expected["pixel_values"].shape
        difference = (actual["pixel_values"].cpu() - expected["pixel_values"]).abs().max()
        assert difference <= 2 / 255 + 1e-6, f"{255 * difference:.2f} of 255"


@needs_accelerator
def test_tensors_stay_on_the_device():
    picture = torch.randint(0, 256, (3, 301, 207), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = FastVLMImageProcessorPil(size=128)(picture, return_tensors="pt")["pixel_values"]
    actual = FastVLMImageProcessor(size=128)(picture.to(DEVICE), return_tensors="pt")["pixel_values"]
    assert actual.device.type == DEVICE.type
    assert (actual.cpu() - expected).abs().max() <= 2 / 255 + 1e-6
