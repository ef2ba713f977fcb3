# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Image processors: equal to the original's pixels."""

import json

import numpy as np
import PIL.Image
import pytest
import torch

from conftest import GOLDEN
from helpers_images import (
    HAS_TORCHVISION,
    assert_agrees,
    backends,
    needs_torchvision,
    random_pixels,
    to_bytes,
)
from transformers_fastvlm.image_processing_common_fastvlm import fit_within, select_grid
from transformers_fastvlm.image_processing_fastvlm import FastVLMImageProcessor

CASES = json.loads((GOLDEN / "preprocessing" / "cases.json").read_text())


@backends
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_pixels_equal_the_originals(processor_class, case):
    folder = GOLDEN / "preprocessing"
    image = PIL.Image.open(folder / f"{case['name']}_input.png")
    assert image.mode == case["mode"]
    expected = np.asarray(PIL.Image.open(folder / f"{case['name']}_expected_{case['resolution']}.png")).astype(int)
    pixel_values = processor_class(size=case["resolution"])(image, return_tensors="pt").pixel_values
    assert pixel_values.dtype == torch.float32
    assert_agrees(processor_class, to_bytes(pixel_values)[0], np.moveaxis(expected, -1, 0))


@backends
def test_tiles_equal_the_originals(processor_class):
    expected = np.load(GOLDEN / "preprocessing" / "tiles_640x427_expected.npz")
    image = PIL.Image.open(GOLDEN / "preprocessing" / "tiles_640x427_input.png")
    pinpoints = expected["grid_pinpoints"].tolist()
    outputs = processor_class(size=256, do_tile=True, image_grid_pinpoints=pinpoints)(image, return_tensors="pt")
    assert outputs["num_crops"].tolist() == [5]
    assert_agrees(processor_class, to_bytes(outputs.pixel_values), expected["tiles"].astype(int))


@pytest.mark.parametrize(
    ("height", "width", "pinpoints", "expected"),
    [
        (427, 640, [[512, 512], [256, 512], [768, 256]], (512, 512)),
        (100, 300, [[512, 512], [768, 256]], (256, 768)),  # both keep all pixels: the smaller waste wins
        (300, 100, [[512, 512], [256, 768]], (768, 256)),
        (10, 10, [[256, 512], [512, 256]], (512, 256)),  # equal: the first
    ],
)
def test_select_grid(height, width, pinpoints, expected):
    assert select_grid(height, width, pinpoints) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((427, 640), (342, 512)), ((640, 427), (512, 342)), ((10, 20000), (1, 512)), ((5, 5), (512, 512))],
)
def test_fit_within(size, expected):
    assert fit_within(*size, 512, 512) == expected


@backends
def test_tiles_reassemble_the_fitted_image(processor_class):
    image = PIL.Image.fromarray(random_pixels(128, 128))
    crops = processor_class(size=64, do_tile=True)(image, return_tensors="pt").pixel_values
    assert crops.shape == (5, 3, 64, 64)
    grid = torch.cat([torch.cat([crops[1], crops[2]], -1), torch.cat([crops[3], crops[4]], -1)], -2)
    assert (to_bytes(grid[None])[0] == np.moveaxis(np.asarray(image), -1, 0)).all()


@backends
def test_without_padding_the_middle_is_cropped(processor_class):
    image = PIL.Image.fromarray(random_pixels(64, 128))
    pixel_values = processor_class(size=64, do_pad=False)(image, return_tensors="pt").pixel_values
    assert (to_bytes(pixel_values)[0] == np.moveaxis(np.asarray(image)[:, 32:96], -1, 0)).all()


@backends
def test_normalization_follows_rescaling(processor_class):
    image = PIL.Image.fromarray(random_pixels(64, 64))
    options = {"do_normalize": True, "image_mean": [0.5, 0.25, 0.0], "image_std": [0.5, 1.0, 2.0]}
    plain, normalized = (
        processor_class(size=64)(image, return_tensors="pt", **extra).pixel_values for extra in ({}, options)
    )
    expected = (plain - torch.tensor([0.5, 0.25, 0.0])[:, None, None]) / torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    torch.testing.assert_close(normalized, expected)


@backends
@pytest.mark.parametrize("do_tile", [False, True])
def test_number_of_crops_is_known_from_the_size(processor_class, do_tile):
    processor = processor_class(size=64)
    options = {"do_tile": do_tile, "image_grid_pinpoints": [[128, 128], [192, 64], [64, 64]]}
    for size in [(10, 300), (300, 10), (64, 64), (100, 120), (1, 1)]:
        image = PIL.Image.new("RGB", size[::-1])
        crops = processor(image, return_tensors="pt", **options)
        assert len(crops.pixel_values) == processor.get_number_of_image_patches(*size, options)
        assert ("num_crops" in crops) == do_tile


@backends
def test_saved_and_loaded(processor_class, tmp_path):
    processor = processor_class(size=128, do_tile=True, image_grid_pinpoints=[[256, 256]], background_color=7)
    processor.save_pretrained(tmp_path)
    assert processor_class.from_pretrained(tmp_path).to_dict() == processor.to_dict()
    assert (
        json.loads((tmp_path / "preprocessor_config.json").read_text())["image_processor_type"]
        == "FastVLMImageProcessor"
    )


@backends
def test_batches(processor_class):
    images = [PIL.Image.fromarray(random_pixels(20 + index, 40, seed=index)) for index in range(3)]
    processor = processor_class(size=64)
    expected = torch.cat([processor(image, return_tensors="pt").pixel_values for image in images])
    for batch in (images, tuple(images), [images[:1], [], images[1:]]):
        assert torch.equal(processor(batch, return_tensors="pt").pixel_values, expected)
    array = np.stack([random_pixels(20, 40, seed=index) for index in range(2)])
    pixel_values = processor(array, return_tensors="pt").pixel_values
    assert torch.equal(pixel_values[1:], processor(array[1], return_tensors="pt").pixel_values)
    assert len(processor(images)["pixel_values"]) == 3


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is installed, so nothing is missing")
def test_without_torchvision_its_backend_says_so():
    with pytest.raises(ImportError, match="FastVLMImageProcessor requires the Torchvision library"):
        FastVLMImageProcessor()


@needs_torchvision
def test_device_is_where_the_output_is():
    image = PIL.Image.new("RGB", (40, 30))
    assert FastVLMImageProcessor(size=64)(image, device="cpu", return_tensors="pt").pixel_values.device.type == "cpu"
