# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Padding without the padded square, and both backends' order of passes: Pillow's pixels for any shape."""

import tracemalloc

import numpy as np
import PIL.Image
import pytest
import torch

from helpers_images import (
    assert_agrees,
    backends,
    needs_torchvision,
    original_pixels,
    random_pixels,
    smooth_image,
    to_bytes,
)
from transformers_fastvlm.image_processing_fastvlm import FastVLMImageProcessor
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil
from transformers_fastvlm.padded_resize import resizes_columns_first


@backends
@pytest.mark.parametrize(
    "size",
    [
        (97, 201),
        (201, 97),
        (301, 300),
        (1, 1),
        (2, 333),
        (333, 2),
        (64, 64),
        (30, 20),
        (1500, 40),
        (40, 1500),
        (1301, 903),
        (903, 1301),
    ],
)
def test_padding_row_by_row_equals_padding_the_whole_image(processor_class, size, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # which share strips of large images
    image = PIL.Image.fromarray(random_pixels(*size))
    pixel_values = processor_class(size=64)(image, return_tensors="pt").pixel_values
    assert_agrees(processor_class, to_bytes(pixel_values)[0], original_pixels(image, 64))


@backends
def test_background_color(processor_class):
    image = PIL.Image.fromarray(random_pixels(30, 70))
    processor = processor_class(size=64, background_color=[10, 200, 30])
    expected = original_pixels(image, 64, (10, 200, 30))
    assert_agrees(processor_class, to_bytes(processor(image, return_tensors="pt").pixel_values)[0], expected)


@needs_torchvision
def test_backends_agree_on_tiles_of_any_shape():
    images = [smooth_image(*size) for size in [(50, 300), (300, 50), (128, 128), (1, 1)]]
    options = {"size": 64, "do_tile": True, "return_tensors": "pt", "image_grid_pinpoints": [[128, 128], [192, 64]]}
    pil, torchvision = FastVLMImageProcessorPil()(images, **options), FastVLMImageProcessor()(images, **options)
    assert pil["num_crops"].tolist() == torchvision["num_crops"].tolist() == [4, 5, 5, 4]
    assert_agrees(FastVLMImageProcessor, to_bytes(torchvision.pixel_values), to_bytes(pil.pixel_values))


@backends
def test_a_very_wide_image_needs_no_square_of_its_width(processor_class):
    image = PIL.Image.new("RGB", (20000, 10), (255, 255, 255))
    pixels = to_bytes(processor_class(size=256)(image, return_tensors="pt").pixel_values)[0, 0]
    assert pixels.shape == (256, 256) and pixels[100].max() == 0 and pixels[127:129].min() > 0


@pytest.mark.parametrize("seed", range(4))
@backends
def test_images_of_any_shape_and_background_equal_padding_and_resizing_them(processor_class, seed):
    random = np.random.default_rng(seed)
    for _ in range(30):
        short, side = int(random.integers(1, 40)), int(random.integers(1, 150))
        long = int(short * random.uniform(1, 60)) + 1
        color = [int(value) for value in random.integers(0, 256, 3)]
        size = (short, long) if random.integers(2) else (long, short)
        pixels = random_pixels(*size, seed=seed)
        if random.integers(2):  # black and white, which overshoots most
            pixels = np.where(pixels > 127, 255, 0).astype(np.uint8)
        image = PIL.Image.fromarray(pixels)
        processor = processor_class(size=side, background_color=color)
        actual = to_bytes(processor(image, return_tensors="pt").pixel_values)[0]
        assert_agrees(processor_class, actual, original_pixels(image, side, tuple(color)))


@pytest.mark.parametrize("resample", [resample for resample in PIL.Image.Resampling if resample < 6])
def test_every_filter_on_narrow_images(resample):
    random = np.random.default_rng(0)
    for size in [(1, 700), (700, 1), (9, 311), (311, 9), (40, 161)]:
        image = PIL.Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))
        processor = FastVLMImageProcessorPil(size=24, resample=resample, background_color=[9, 255, 130])
        actual = to_bytes(processor(image, return_tensors="pt").pixel_values)[0]
        assert (actual == original_pixels(image, 24, (9, 255, 130), resample)).all()


@pytest.mark.parametrize("channels", [1, 4])
@backends
def test_narrow_images_of_other_channels(processor_class, channels):
    pixels = random_pixels(5, 400, channels)
    outputs = processor_class(size=32, background_color=7)(
        [pixels, pixels.swapaxes(0, 1)], do_convert_rgb=False, input_data_format="channels_last", return_tensors="pt"
    )
    for actual, array in zip(to_bytes(outputs.pixel_values), (pixels, pixels.swapaxes(0, 1)), strict=True):
        for channel in range(channels):
            grey = original_pixels(PIL.Image.fromarray(array[..., channel]), 32, (7, 7, 7))[0]
            assert_agrees(processor_class, actual[channel], grey)


@pytest.mark.parametrize("size", [(1, 200_000), (200_000, 1), (3, 65_000)])
def test_padding_whose_weights_round_to_another_colour(size):
    """The weights of so much padding add up to another sum than 1 once rounded, so that Pillow changes its colour."""
    image = PIL.Image.fromarray(random_pixels(*size))
    processor = FastVLMImageProcessorPil(size=2, background_color=[255, 100, 3], max_padded_pixels=2**40)
    actual = to_bytes(processor(image, return_tensors="pt").pixel_values)[0]
    # One axis after the other, so that no square of all the padding is needed.
    long, short = max(size), min(size)
    strip = image if size[1] == long else image.transpose(PIL.Image.Transpose.TRANSPOSE)
    rows = strip.resize((2, short), PIL.Image.Resampling.BICUBIC)
    line = PIL.Image.new("RGB", (long, 1), (255, 100, 3)).resize((2, 1), PIL.Image.Resampling.BICUBIC)
    column = line.resize((2, long), PIL.Image.Resampling.NEAREST)
    column.paste(rows, (0, (long - short) // 2))
    expected = np.asarray(column.resize((2, 2), PIL.Image.Resampling.BICUBIC)).astype(int)
    expected = np.moveaxis(expected, -1, 0)
    if size[0] == long:
        expected = expected.swapaxes(1, 2)
    assert np.abs(actual - expected).max() == 0


@backends
def test_narrow_images_need_memory_for_their_own_pixels_only(processor_class):
    image = PIL.Image.new("RGB", (65_000, 1), (255, 255, 255))
    tracemalloc.start()
    try:
        pixels = to_bytes(processor_class(size=256)(image, return_tensors="pt").pixel_values)
        largest = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pixels[0, 0, :100].max() == 0 and largest < 64 * 2**20


@backends
def test_padded_pixels_are_bounded(processor_class):
    processor = processor_class(size=64)
    with pytest.raises(ValueError, match=r"Image 1 of the call, 3000000×1 pixels, is padded to .*`max_padded_pixels`"):
        processor([random_pixels(30, 40), np.zeros((1, 3_000_000, 3), np.uint8)])
    assert processor(np.zeros((5, 70_000, 3), np.uint8), max_padded_pixels=70_000**2)
    with pytest.raises(ValueError, match="40×30 pixels, is padded to a square of 1,600"):
        processor_class(size=32, max_padded_pixels=1024)(PIL.Image.new("RGB", (40, 30)))
    with pytest.raises(ValueError, match="is resized to"):  # the shorter edge to 64, with the longer in proportion
        processor(PIL.Image.new("RGB", (100_000, 1)), do_pad=False)
    with pytest.raises(ValueError, match="is padded to a square"):
        processor(PIL.Image.new("RGB", (20_000, 1)), do_resize=False)


@pytest.mark.parametrize("seed", range(4))
def test_which_axis_pillow_resizes_first(seed):
    random = np.random.default_rng(seed)
    for _ in range(100):
        height, width, new_height, new_width = (int(length) for length in random.integers(1, 130, 4))
        if random.integers(4) == 0:
            height, width = height + 301, 1 + width // 64
        image = PIL.Image.fromarray(random.integers(0, 256, (height, width), dtype=np.uint8))
        between = (
            (width, new_height) if resizes_columns_first(height, width, new_height, new_width) else (new_width, height)
        )
        resized = image.resize(between, PIL.Image.Resampling.BICUBIC)
        resized = resized.resize((new_width, new_height), PIL.Image.Resampling.BICUBIC)
        expected = image.resize((new_width, new_height), PIL.Image.Resampling.BICUBIC)
        assert (np.asarray(resized) == np.asarray(expected)).all()


@needs_torchvision
@pytest.mark.parametrize("seed", range(4))
def test_backends_agree_on_tiles_of_noise_in_any_grid(seed):
    random = np.random.default_rng(seed)
    for _ in range(15):
        height, width = (int(length) for length in random.integers(1, 300, 2))
        image = PIL.Image.fromarray(random_pixels(height * int(random.choice([1, 10])), width, seed=seed))
        pinpoints = (32 * random.integers(1, 6, (3, 2))).tolist()
        options = {"size": 32, "do_tile": True, "image_grid_pinpoints": pinpoints, "return_tensors": "pt"}
        pil, torchvision = (
            backend()(image, **options) for backend in (FastVLMImageProcessorPil, FastVLMImageProcessor)
        )
        for actual, expected in zip(to_bytes(torchvision.pixel_values), to_bytes(pil.pixel_values), strict=True):
            assert_agrees(FastVLMImageProcessor, actual, expected)


@needs_torchvision
def test_backends_agree_without_padding():
    random = np.random.default_rng(0)
    for height, width in random.integers(1, 300, (30, 2)):
        image = PIL.Image.fromarray(random_pixels(height, width))
        options = {"size": 32, "do_pad": False, "return_tensors": "pt"}
        pil, torchvision = (
            backend()(image, **options) for backend in (FastVLMImageProcessorPil, FastVLMImageProcessor)
        )
        assert_agrees(FastVLMImageProcessor, to_bytes(torchvision.pixel_values), to_bytes(pil.pixel_values))
