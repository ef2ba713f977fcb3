# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The image processors' options: given, loaded from files, and checked alike."""

import json
import re
from typing import get_type_hints

import numpy as np
import PIL.Image
import pytest
import torch

from helpers_images import backends, needs_torchvision, random_pixels, to_bytes
from transformers_fastvlm.image_processing_common_fastvlm import FastVLMImageProcessorKwargs
from transformers_fastvlm.image_processing_fastvlm import FastVLMImageProcessor
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil


@backends
def test_size_selects_the_resolution_when_made_loaded_and_called(processor_class, tmp_path):
    image = PIL.Image.new("RGB", (40, 30))
    processor = processor_class()
    assert dict(processor.size) == {"shortest_edge": 1024} and dict(processor.crop_size) == {
        "height": 1024,
        "width": 1024,
    }
    processor.save_pretrained(tmp_path)
    loaded = processor_class.from_pretrained(tmp_path, size=128)
    assert dict(loaded.crop_size) == {"height": 128, "width": 128}
    assert loaded(image, return_tensors="pt").pixel_values.shape == (1, 3, 128, 128)
    for size in (64, {"shortest_edge": 64}, {"height": 64, "width": 64}, [64, 64]):
        assert processor_class(size=size)(image, return_tensors="pt").pixel_values.shape == (1, 3, 64, 64)
        assert loaded(image, size=size, return_tensors="pt").pixel_values.shape == (1, 3, 64, 64)
    assert loaded(image, return_tensors="pt").pixel_values.shape == (1, 3, 128, 128)


@backends
def test_crop_size_crops_the_middle(processor_class):
    image = PIL.Image.fromarray(random_pixels(64, 64))
    pixel_values = processor_class(size=64, crop_size=32)(image, return_tensors="pt").pixel_values
    assert (to_bytes(pixel_values)[0] == np.moveaxis(np.asarray(image)[16:48, 16:48], -1, 0)).all()


@backends
@pytest.mark.parametrize(
    "size",
    [
        0,
        -64,
        True,
        {"height": 64, "width": 128},
        {"longest_edge": 64},
        {"shortest_edge": 64, "longest_edge": 99},
        [64],
    ],
)
@pytest.mark.parametrize("name", ["size", "crop_size"])
def test_a_size_that_is_no_square_is_an_error(processor_class, name, size):
    with pytest.raises(ValueError, match=rf"`{name}` must be a number of pixels"):
        processor_class(**{name: size})


@backends
def test_options_that_contradict_each_other(processor_class):
    image = PIL.Image.new("RGB", (40, 30))
    with pytest.raises(ValueError, match="`crop_size` 128 is larger than `size` 64"):
        processor_class(size=64, crop_size=128)
    with pytest.raises(ValueError, match="multiples of the resolution 64, got \\[128, 100\\]"):
        processor_class(size=64)(image, do_tile=True, image_grid_pinpoints=[[128, 100]])
    with pytest.raises(ValueError, match="`image_grid_pinpoints` is empty"):
        processor_class(size=64, do_tile=True, image_grid_pinpoints=[])
    with pytest.raises(ValueError, match="`do_tile` needs"):
        processor_class(size=64, crop_size=32, do_tile=True)
    with pytest.raises(ValueError, match="`background_color` must be"):
        processor_class(background_color=[0, 300, 0])
    with pytest.raises(ValueError, match="`pad_size` has no meaning"):
        processor_class(pad_size={"height": 10, "width": 10})


WRONG_VALUES = [
    ({"do_tile": "false"}, "`do_tile` must be bool, got 'false'"),
    ({"do_resize": 0}, "`do_resize` must be bool, got 0"),
    ({"size": "512"}, "`size` must be a number of pixels"),
    ({"size": 512.0}, "`size` must be a number of pixels"),
    ({"resample": "bicubic"}, "`resample` must be one of PIL's filters"),
    ({"resample": 99}, "`resample` must be one of PIL's filters"),
    ({"rescale_factor": "1/255"}, "`rescale_factor` must be float"),
    ({"rescale_factor": float("nan")}, "`rescale_factor` must be finite"),
    ({"image_mean": ["0"]}, "`image_mean` must be"),
    ({"do_normalize": True, "image_mean": [0.1, 0.2]}, "`image_mean` must be a number or three"),
    ({"image_std": [0, 1, 1]}, "`image_std` must not be 0"),
    ({"background_color": True}, "`background_color` must be"),
    ({"background_color": [True, 0, 0]}, "`background_color` must be"),
    ({"data_format": "channels_last"}, "`data_format` must be 'channels_first'"),
    ({"max_padded_pixels": 0}, "`max_padded_pixels` must be a number of pixels"),
    ({"max_padded_pixels": 1e9}, "`max_padded_pixels` must be int"),
    ({"size": 10**6}, "`size` 1000000 gives 1,000,000,000,000 pixels, more than 67,108,864"),
    ({"size": 64, "do_tile": True, "image_grid_pinpoints": [[64 * 200, 64 * 200]]}, "crops of 163,844,096 pixels"),
    ({"size": 64, "do_tile": True, "image_grid_pinpoints": "[[64, 64]]"}, "`image_grid_pinpoints` must be list"),
    ({"size": 64, "do_tile": True, "image_grid_pinpoints": [64]}, "`image_grid_pinpoints` must be .* pairs"),
    ({"size": 64, "do_tile": True, "image_grid_pinpoints": [[64]]}, "`image_grid_pinpoints` must be .* pairs"),
    ({"size": 64, "do_tile": True, "image_grid_pinpoints": [[float("nan"), 64]]}, "pairs"),
    ({"size": 64, "do_tile": True, "image_grid_pinpoints": [[64.0, 64]]}, "pairs"),
    ({"size": 64, "do_tile": True, "image_grid_pinpoints": [[True, 64]]}, "pairs"),
    ({"size": 64, "do_tile": True, "image_grid_pinpoints": [[-64, 64]]}, "pairs"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_VALUES)
@backends
def test_values_that_an_option_cannot_have(processor_class, tmp_path, options, message):
    """Whether given when made, called or loaded, or read from a file, which is named."""
    with pytest.raises(ValueError, match=message):
        processor_class(**options)
    with pytest.raises(ValueError, match=message):
        processor_class(size=64)(PIL.Image.new("RGB", (40, 30)), **options)
    processor_class(size=64).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        processor_class.from_pretrained(tmp_path, **options)
    path = tmp_path / "preprocessor_config.json"
    stored = json.loads(path.read_text())
    if "size" in options:
        del stored["crop_size"]
    path.write_text(json.dumps(stored | options))
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}: .*{message}"):
        processor_class.from_pretrained(tmp_path)


@needs_torchvision
@pytest.mark.parametrize("resample", sorted({*PIL.Image.Resampling} - {0, 1, 2, 3}))
def test_filters_that_torchvision_has_not(resample):
    message = r"`resample` .* is none that FastVLMImageProcessor has: 0 \(nearest\), 1 \(lanczos\)"
    with pytest.raises(ValueError, match=message):
        FastVLMImageProcessor(resample=resample)
    with pytest.raises(ValueError, match=message):
        FastVLMImageProcessor(size=64)(PIL.Image.new("RGB", (40, 30)), resample=resample)


@backends
def test_two_channels_need_to_be_converted(processor_class):
    pixels = random_pixels(30, 40, 2)
    assert processor_class(size=64)(pixels)
    with pytest.raises(ValueError, match="2 channels can only be used with `do_convert_rgb=True`"):
        processor_class(size=64)(pixels, do_convert_rgb=False)


@backends
def test_a_mean_for_each_channel(processor_class):
    options = {"do_convert_rgb": False, "do_normalize": True, "image_std": 1}
    assert processor_class(size=64)(random_pixels(30, 40, 4), image_mean=[0, 0, 0, 0], **options)
    with pytest.raises(ValueError, match="`image_mean` has 3 values for an image of 4 channels"):
        processor_class(size=64)(random_pixels(30, 40, 4), **options)


@backends
def test_null_is_the_default(processor_class, tmp_path):
    image = PIL.Image.fromarray(random_pixels(30, 70))
    processor = processor_class(size=64, background_color=[10, 20, 30])
    expected = processor(image, return_tensors="pt").pixel_values
    names = [
        name
        for name in processor.to_dict()
        if name.startswith(("do_", "image_mean", "image_std", "resample", "rescale"))
    ]
    assert "do_rescale" in names and "do_convert_rgb" in names
    assert torch.equal(processor(image, return_tensors="pt", **dict.fromkeys(names)).pixel_values, expected)
    assert torch.equal(processor(image, size=None, return_tensors="pt").pixel_values, expected)
    processor.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict.fromkeys(names)))
    assert torch.equal(processor_class.from_pretrained(tmp_path)(image, return_tensors="pt").pixel_values, expected)


@backends
def test_whole_numbers_are_floating_point_numbers_too(processor_class):
    image = PIL.Image.fromarray(random_pixels(30, 70))
    options = {"do_normalize": True, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    expected = processor_class(size=64)(image, return_tensors="pt").pixel_values
    torch.testing.assert_close(processor_class(size=64)(image, return_tensors="pt", **options).pixel_values, expected)


@backends
def test_a_crop_without_the_size_before_it(processor_class, tmp_path):
    """It would show the middle of the image alone."""
    with pytest.raises(ValueError, match="`crop_size` 512 is given without `size`"):
        processor_class(crop_size=512)
    processor_class(size=512).save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    stored = json.loads(path.read_text())
    del stored["size"]
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}: `crop_size` 512 is given without `size`"):
        processor_class.from_pretrained(tmp_path)


@backends
def test_options_that_there_are_not(processor_class, tmp_path):
    image = PIL.Image.new("RGB", (40, 30))
    processor = processor_class(size=64)
    with pytest.raises(TypeError, match="no option `sise`; did you mean `size`"):
        processor(image, sise=512)
    with pytest.raises(TypeError, match=f"{processor_class.__name__} has no option `resolution`"):
        processor(image, resolution=512)
    with pytest.raises(TypeError, match="no option `do_tiles`; did you mean `do_tile`"):
        processor_class(do_tiles=True)
    processor.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="no option `background_colour`; did you mean `background_color`"):
        processor_class.from_pretrained(tmp_path, background_colour=7)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_tiel": True}))
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}: There is no option `do_tiel`"):
        processor_class.from_pretrained(tmp_path)
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"expected an object with options, got \[1\]"):
        processor_class.from_pretrained(tmp_path)


def test_what_others_pass_to_every_part_of_a_checkpoint(tmp_path):
    FastVLMImageProcessorPil(size=64).save_pretrained(tmp_path)
    others = {"trust_remote_code": False, "device_map": "cpu", "model_max_length": 9, "foo": 1}
    processor, unused = FastVLMImageProcessorPil.from_pretrained(tmp_path, return_unused_kwargs=True, **others)
    assert processor.get_resolution() == 64 and unused["foo"] == 1


def test_the_bound_for_crops_rises_with_that_for_padding():
    assert FastVLMImageProcessorPil(size=9000, max_padded_pixels=2**33)
    assert FastVLMImageProcessorPil(size=1024, max_padded_pixels=10)  # a low one is for images alone


def test_types_of_options_can_be_looked_up():
    assert get_type_hints(FastVLMImageProcessorKwargs).keys() == FastVLMImageProcessorKwargs.__annotations__.keys()
