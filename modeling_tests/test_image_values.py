# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Images as arrays, tensors and PIL images of any mode: the same pixels whatever form they come in."""

import warnings

import numpy as np
import PIL.Image
import pytest
import torch

from helpers_images import (
    backends,
    random_pixels,
    to_bytes,
)

FORMS = {
    "PIL": lambda pixels: PIL.Image.fromarray(pixels),
    "array, channels last": lambda pixels: pixels,
    "array, channels first": lambda pixels: np.moveaxis(pixels, -1, 0),
    "tensor, channels first": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
    "tensor, channels last": lambda pixels: torch.from_numpy(pixels),
    "float32 in 0..255": lambda pixels: pixels.astype(np.float32),
    "float64 in 0..1": lambda pixels: pixels / 255,
    "float32 tensor in 0..1": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1) / 255,
    "bfloat16 tensor in 0..255": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1).bfloat16(),
    "tensor with gradient": lambda pixels: (torch.from_numpy(pixels).permute(2, 0, 1) / 255).requires_grad_(),
    "int64": lambda pixels: pixels.astype(np.int64),
    "uint16": lambda pixels: pixels.astype(np.uint16) * 257,
    "big-endian uint16": lambda pixels: (pixels.astype(np.uint16) * 257).astype(">u2"),
    "uint16 tensor": lambda pixels: torch.from_numpy(pixels.astype(np.uint16) * 257),
    "RGBA array": lambda pixels: np.dstack([pixels, random_pixels(*pixels.shape[:2], 1)]),
}


@backends
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_gives_the_same(processor_class, form):
    pixels = random_pixels(40, 72)
    processor = processor_class(size=64)
    expected = processor(PIL.Image.fromarray(pixels), return_tensors="pt").pixel_values
    assert torch.equal(processor(FORMS[form](pixels), return_tensors="pt").pixel_values, expected)


GREY_FORMS = {
    "L": lambda grey: PIL.Image.fromarray(grey),
    "LA": lambda grey: PIL.Image.merge("LA", [PIL.Image.fromarray(grey), PIL.Image.fromarray(255 - grey)]),
    "I": lambda grey: PIL.Image.fromarray(grey.astype(np.int32)),
    "I, 16 bits": lambda grey: PIL.Image.fromarray(grey.astype(np.int32) * 257),
    "I;16": lambda grey: PIL.Image.fromarray(grey.astype(np.uint16) * 257),
    "F in 0..1": lambda grey: PIL.Image.fromarray(grey.astype(np.float32) / 255),
    "F in 0..255": lambda grey: PIL.Image.fromarray(grey.astype(np.float32)),
    "two dimensions": lambda grey: grey,
    "one channel, last": lambda grey: grey[..., None],
    "one channel, first": lambda grey: grey[None],
    "tensor of two dimensions": lambda grey: torch.from_numpy(grey),
    "grey and alpha": lambda grey: np.dstack([grey, 255 - grey]),
}


@backends
@pytest.mark.parametrize("form", GREY_FORMS)
def test_every_form_of_a_grey_image_gives_the_same(processor_class, form):
    grey = random_pixels(40, 72, 1)[..., 0]
    processor = processor_class(size=64)
    expected = processor(np.dstack([grey] * 3), return_tensors="pt").pixel_values
    assert torch.equal(processor(GREY_FORMS[form](grey), return_tensors="pt").pixel_values, expected)


@backends
@pytest.mark.parametrize("mode", ["1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBA", "La", "RGBa"])
def test_other_modes_are_converted_as_pillow_does(processor_class, mode):
    image = PIL.Image.fromarray(random_pixels(40, 72))
    via = {"La": "LA", "RGBa": "RGBA", "PA": "P", "LAB": None, "HSV": "RGB"}.get(mode)
    if mode == "LAB":
        image = PIL.Image.merge("LAB", image.split())
    else:
        image = (image.convert(via) if via else image).convert(mode)
    expected = (image.convert("LA") if mode == "La" else image).convert("RGB")
    processor = processor_class(size=64)
    outputs = [processor(each, return_tensors="pt").pixel_values for each in (image, expected)]
    assert torch.equal(*outputs)


@backends
def test_transparent_pixels_keep_their_colour(processor_class):
    image = PIL.Image.new("RGBA", (64, 64), (200, 100, 50, 0))
    pixel_values = processor_class(size=64)(image, return_tensors="pt").pixel_values
    assert to_bytes(pixel_values)[0, :, 5, 5].tolist() == [200, 100, 50]


@backends
@pytest.mark.parametrize(
    "image",
    [
        PIL.Image.new("RGB", (1, 1), (9, 8, 7)),
        np.full((1, 1, 3), [9, 8, 7], dtype=np.uint8),
        np.full((3, 1, 1), [[[9]], [[8]], [[7]]], dtype=np.uint8),
    ],
    ids=["PIL", "channels last", "channels first"],
)
def test_one_pixel(processor_class, image):
    pixel_values = processor_class(size=64)(image, return_tensors="pt").pixel_values
    assert (to_bytes(pixel_values)[0] == np.array([9, 8, 7])[:, None, None]).all()


@backends
def test_do_rescale_false_keeps_the_range(processor_class):
    pixels = random_pixels(64, 64)
    processor = processor_class(size=64)
    scaled = processor(torch.from_numpy(pixels).permute(2, 0, 1) / 255, do_rescale=False, return_tensors="pt")
    assert torch.equal(scaled.pixel_values, processor(pixels, return_tensors="pt").pixel_values)
    raw = processor(pixels, do_rescale=False, return_tensors="pt").pixel_values
    assert (raw[0].numpy() == np.moveaxis(pixels, -1, 0)).all()
    with pytest.raises(ValueError, match="either all images lie in 0..1 or none"):
        processor([pixels, pixels / 255], do_rescale=False)


@backends
def test_mixed_input_data_format(processor_class):
    ambiguous = random_pixels(3, 40).astype(np.uint8)
    with pytest.raises(ValueError, match="input_data_format"):
        processor_class(size=64)(ambiguous)
    expected = processor_class(size=64)(PIL.Image.fromarray(ambiguous), return_tensors="pt").pixel_values
    actual = processor_class(size=64)(ambiguous, input_data_format="channels_last", return_tensors="pt").pixel_values
    assert torch.equal(actual, expected)


@backends
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["array", "tensor", "PIL"])
def test_pixels_that_are_no_numbers(processor_class, kind, value):
    pixels = np.full((3, 20, 30), 0.5, dtype=np.float32)
    pixels[1, 2, 3] = value
    image = {"array": pixels, "tensor": torch.from_numpy(pixels), "PIL": PIL.Image.fromarray(pixels[1])}[kind]
    with pytest.raises(ValueError, match="NaN or infinite"):
        processor_class(size=64)(image)


@backends
def test_pixels_out_of_range(processor_class):
    processor = processor_class(size=64)
    for image in (
        np.full((8, 9, 3), -0.5),
        np.full((8, 9, 3), 300.0),
        np.full((8, 9, 3), 999),
        torch.full((3, 8, 9), -1),
    ):
        with pytest.raises(ValueError, match="must lie in 0..255, or 0..1"):
            processor(image)


@backends
@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "list of images is empty"),
        ([[], []], "list of images is empty"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\) is no image"),
        (np.zeros(7, np.uint8), r"shape \(7,\) is no image"),
        (np.zeros((9, 9, 7), np.uint8), r"shape \(9, 9, 7\) has no axis of channels"),
        (None, "NoneType is no image"),
        ([{"a": 1}], "dict is no image"),
    ],
)
def test_what_is_no_image(processor_class, images, message):
    with pytest.raises(ValueError, match=message):
        processor_class(size=64)(images)


FLOATS = {
    "array": lambda pixels: pixels.astype(np.float32),
    "float64 array": lambda pixels: pixels.astype(np.float64),
    "tensor": lambda pixels: torch.from_numpy(pixels).float(),
    "tensor with gradient": lambda pixels: torch.from_numpy(pixels).float().requires_grad_(),
    "bfloat16 tensor": lambda pixels: torch.from_numpy(pixels).bfloat16(),
}


@pytest.mark.parametrize("form", FLOATS)
@backends
def test_a_dark_image_of_a_bright_batch_is_dark(processor_class, form):
    """One rule for a batch: its frames are in one range, whatever each of them shows."""
    pixels = np.stack([random_pixels(20, 40), np.ones((20, 40, 3), np.uint8), np.zeros((20, 40, 3), np.uint8)])
    processor = processor_class(size=64)
    expected = processor(pixels, return_tensors="pt").pixel_values
    batch = FLOATS[form](pixels)
    for images in (batch, list(batch), [batch[:1], [batch[1], batch[2:]]]):
        assert torch.equal(processor(images, return_tensors="pt").pixel_values, expected)
    raw = processor(batch, do_rescale=False, return_tensors="pt").pixel_values
    assert torch.equal(raw, processor(pixels, do_rescale=False, return_tensors="pt").pixel_values)


@backends
def test_floating_point_images_of_unknown_range(processor_class):
    processor = processor_class(size=64)
    bright, unit = random_pixels(20, 40).astype(np.float32), random_pixels(20, 40) / 255
    with pytest.raises(ValueError, match="some lie in 0..1 and others in 0..255"):
        processor([bright, torch.from_numpy(unit)])
    both = processor(np.stack([bright, unit.astype(np.float32)]), return_tensors="pt").pixel_values
    assert both[1].max() <= 1 / 255  # an array is in one range
    mixed = processor([random_pixels(20, 40), unit], return_tensors="pt").pixel_values  # dtypes tell these apart
    assert torch.equal(mixed[0], mixed[1])


@backends
def test_dark_sixteen_bit_images_beside_a_bright_one(processor_class):
    dark, bright = np.full((20, 30), 200, np.int32), np.full((20, 30), 50_000, np.int32)
    outputs = processor_class(size=64, do_pad=False)(
        [PIL.Image.fromarray(dark), PIL.Image.fromarray(bright)], return_tensors="pt"
    )
    assert to_bytes(outputs.pixel_values)[:, 0, 5, 5].tolist() == [1, 195]


@backends
def test_the_caller_keeps_the_images_as_they_are(processor_class):
    tensor = (torch.rand(3, 20, 40) * 0.5).requires_grad_()
    array = random_pixels(20, 40).astype(np.float32)
    array.setflags(write=False)
    before = tensor.detach().clone(), array.copy()
    processor = processor_class(size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(tensor)
        processor(array)
        processor(array.astype(np.uint8))
    assert torch.equal(tensor, before[0]) and (array == before[1]).all() and tensor.requires_grad


LAYOUTS = {
    "read-only": lambda pixels: (pixels.setflags(write=False), pixels)[1],
    "reversed channels": lambda pixels: pixels[..., ::-1].copy()[..., ::-1],
    "upside down": lambda pixels: pixels[::-1].copy()[::-1],
    "every second": lambda pixels: pixels.repeat(2, 0).repeat(2, 1)[::2, ::2],
    "big-endian float": lambda pixels: pixels.astype(">f4"),
    "big-endian int64": lambda pixels: pixels.astype(">i8"),
    "long double": lambda pixels: pixels.astype(np.longdouble),
    "field of a record": lambda pixels: _field_of_a_record(pixels),
    "conjugate tensor's part": lambda pixels: (
        torch.conj(torch.complex(*[-torch.from_numpy(pixels).double()] * 2)).imag
    ),
    "uint64 tensor": lambda pixels: torch.from_numpy(pixels.astype(np.uint64)),
}


def _field_of_a_record(pixels: np.ndarray) -> np.ndarray:
    records = np.zeros(pixels.shape, np.dtype([("flag", "u1"), ("value", "<f4")]))
    records["value"] = pixels
    return records["value"]


@pytest.mark.parametrize("layout", LAYOUTS)
@backends
def test_every_layout_in_memory_gives_the_same(processor_class, layout):
    pixels = random_pixels(40, 72)
    processor = processor_class(size=64)
    expected = processor(pixels, return_tensors="pt").pixel_values
    assert torch.equal(processor(LAYOUTS[layout](pixels.copy()), return_tensors="pt").pixel_values, expected)


@backends
def test_booleans_are_black_and_white(processor_class):
    mask = random_pixels(20, 40)[..., 0] > 127
    processor = processor_class(size=64)
    expected = processor(mask.astype(np.uint8) * 255, return_tensors="pt").pixel_values
    for image in (mask, torch.from_numpy(mask), PIL.Image.fromarray(mask)):
        assert torch.equal(processor(image, return_tensors="pt").pixel_values, expected)


NO_IMAGES = {
    "meta tensor": lambda: torch.zeros(3, 8, 9, device="meta"),
    "sparse tensor": lambda: torch.zeros(3, 8, 9).to_sparse(),
    "quantized tensor": lambda: torch.quantize_per_tensor(torch.zeros(3, 8, 9), 0.1, 0, torch.quint8),
    "complex tensor": lambda: torch.zeros(3, 8, 9, dtype=torch.complex64),
    "nested tensor": lambda: torch.nested.nested_tensor([torch.zeros(3, 8), torch.zeros(2, 8)], layout=torch.jagged),
    "dtype object": lambda: np.full((3, 8, 9), None),
    "dtype <U1": lambda: np.full((3, 8, 9), "a"),
    "dtype complex128": lambda: np.zeros((3, 8, 9), complex),
    r"dtype datetime64\[s\]": lambda: np.zeros((3, 8, 9), "M8[s]"),
    "0×5 pixels": lambda: PIL.Image.new("RGB", (0, 5)),
    "5×0 pixels": lambda: [PIL.Image.new("L", (5, 0))],
}


@pytest.mark.filterwarnings("ignore:.*(quantiz|nested|[Nn]ested|deprecated).*")
@pytest.mark.parametrize("kind", NO_IMAGES)
@backends
def test_what_only_looks_like_an_image(processor_class, kind):
    processor = processor_class(size=64)
    image = NO_IMAGES[kind]()
    for images in (image, [image]):
        with pytest.raises(ValueError, match=kind):
            processor(images)
