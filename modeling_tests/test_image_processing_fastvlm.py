# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Image processors: equal to the original's pixels, whatever form an image comes in."""

import base64
import http.server
import io
import json
import threading

import numpy as np
import PIL.Image
import pytest
import torch
from transformers.utils import is_torchvision_available

from conftest import GOLDEN
from transformers_fastvlm.image_processing_base import fit_within, select_grid
from transformers_fastvlm.image_processing_fastvlm import FastVLMImageProcessor
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil

HAS_TORCHVISION = is_torchvision_available()
needs_torchvision = pytest.mark.skipif(
    not HAS_TORCHVISION, reason="torchvision, an optional package, is not installed"
)
BACKENDS = ["pil", pytest.param("torchvision", marks=needs_torchvision)]
CASES = json.loads((GOLDEN / "preprocessing" / "cases.json").read_text())


@pytest.fixture(params=BACKENDS)
def processor_class(request) -> type:
    return FastVLMImageProcessorPil if request.param == "pil" else FastVLMImageProcessor


def random_pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth_image(height: int, width: int) -> PIL.Image.Image:
    """An image without pixel-sized detail, as photographs are."""
    coarse = PIL.Image.fromarray(random_pixels(max(height // 8, 1), max(width // 8, 1)))
    return coarse.resize((width, height), PIL.Image.Resampling.BICUBIC)


def to_bytes(pixel_values: torch.Tensor) -> np.ndarray:
    """(crops, 3, R, R) in 0..1 back to 0..255, exact for outputs that are multiples of 1/255."""
    levels = pixel_values.double().numpy() * 255
    assert np.abs(levels - np.rint(levels)).max() < 1e-4
    return np.rint(levels).astype(int)


def original_pixels(image: PIL.Image.Image, side: int, color=(0, 0, 0)) -> np.ndarray:
    """The original's preprocessing in its plain form: pad the whole image, then resize it."""
    image = image.convert("RGB")
    long = max(image.size)
    canvas = PIL.Image.new("RGB", (long, long), color)
    canvas.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
    return np.moveaxis(np.asarray(canvas.resize((side, side), PIL.Image.Resampling.BICUBIC)), -1, 0).astype(int)


def assert_agrees(processor_class: type, actual: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(actual - expected)
    if processor_class is FastVLMImageProcessorPil:
        assert difference.max() == 0
    else:
        assert difference.max() <= 2 and difference.mean() <= 0.2


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_pixels_equal_the_originals(processor_class, case):
    folder = GOLDEN / "preprocessing"
    image = PIL.Image.open(folder / f"{case['name']}_input.png")
    assert image.mode == case["mode"]
    expected = np.asarray(PIL.Image.open(folder / f"{case['name']}_expected_{case['resolution']}.png")).astype(int)
    pixel_values = processor_class(size=case["resolution"])(image, return_tensors="pt").pixel_values
    assert pixel_values.dtype == torch.float32
    assert_agrees(processor_class, to_bytes(pixel_values)[0], np.moveaxis(expected, -1, 0))


def test_tiles_equal_the_originals(processor_class):
    expected = np.load(GOLDEN / "preprocessing" / "tiles_640x427_expected.npz")
    image = PIL.Image.open(GOLDEN / "preprocessing" / "tiles_640x427_input.png")
    pinpoints = expected["grid_pinpoints"].tolist()
    outputs = processor_class(size=256, do_tile=True, image_grid_pinpoints=pinpoints)(image, return_tensors="pt")
    assert outputs["num_crops"].tolist() == [5]
    assert_agrees(processor_class, to_bytes(outputs.pixel_values), expected["tiles"].astype(int))


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


def test_tiles_reassemble_the_fitted_image(processor_class):
    image = PIL.Image.fromarray(random_pixels(128, 128))
    crops = processor_class(size=64, do_tile=True)(image, return_tensors="pt").pixel_values
    assert crops.shape == (5, 3, 64, 64)
    grid = torch.cat([torch.cat([crops[1], crops[2]], -1), torch.cat([crops[3], crops[4]], -1)], -2)
    assert (to_bytes(grid[None])[0] == np.moveaxis(np.asarray(image), -1, 0)).all()


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


def test_crop_size_crops_the_middle(processor_class):
    image = PIL.Image.fromarray(random_pixels(64, 64))
    pixel_values = processor_class(size=64, crop_size=32)(image, return_tensors="pt").pixel_values
    assert (to_bytes(pixel_values)[0] == np.moveaxis(np.asarray(image)[16:48, 16:48], -1, 0)).all()


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


def test_without_padding_the_middle_is_cropped(processor_class):
    image = PIL.Image.fromarray(random_pixels(64, 128))
    pixel_values = processor_class(size=64, do_pad=False)(image, return_tensors="pt").pixel_values
    assert (to_bytes(pixel_values)[0] == np.moveaxis(np.asarray(image)[:, 32:96], -1, 0)).all()


def test_normalization_follows_rescaling(processor_class):
    image = PIL.Image.fromarray(random_pixels(64, 64))
    options = {"do_normalize": True, "image_mean": [0.5, 0.25, 0.0], "image_std": [0.5, 1.0, 2.0]}
    plain, normalized = (
        processor_class(size=64)(image, return_tensors="pt", **extra).pixel_values for extra in ({}, options)
    )
    expected = (plain - torch.tensor([0.5, 0.25, 0.0])[:, None, None]) / torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    torch.testing.assert_close(normalized, expected)


@pytest.mark.parametrize("do_tile", [False, True])
def test_number_of_crops_is_known_from_the_size(processor_class, do_tile):
    processor = processor_class(size=64)
    options = {"do_tile": do_tile, "image_grid_pinpoints": [[128, 128], [192, 64], [64, 64]]}
    for size in [(10, 300), (300, 10), (64, 64), (100, 120), (1, 1)]:
        image = PIL.Image.new("RGB", size[::-1])
        crops = processor(image, return_tensors="pt", **options)
        assert len(crops.pixel_values) == processor.get_number_of_image_patches(*size, options)
        assert ("num_crops" in crops) == do_tile


def test_saved_and_loaded(processor_class, tmp_path):
    processor = processor_class(size=128, do_tile=True, image_grid_pinpoints=[[256, 256]], background_color=7)
    processor.save_pretrained(tmp_path)
    assert processor_class.from_pretrained(tmp_path).to_dict() == processor.to_dict()
    assert (
        json.loads((tmp_path / "preprocessor_config.json").read_text())["image_processor_type"]
        == "FastVLMImageProcessor"
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


@pytest.mark.parametrize("form", GREY_FORMS)
def test_every_form_of_a_grey_image_gives_the_same(processor_class, form):
    grey = random_pixels(40, 72, 1)[..., 0]
    processor = processor_class(size=64)
    expected = processor(np.dstack([grey] * 3), return_tensors="pt").pixel_values
    assert torch.equal(processor(GREY_FORMS[form](grey), return_tensors="pt").pixel_values, expected)


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


def test_transparent_pixels_keep_their_colour(processor_class):
    image = PIL.Image.new("RGBA", (64, 64), (200, 100, 50, 0))
    pixel_values = processor_class(size=64)(image, return_tensors="pt").pixel_values
    assert to_bytes(pixel_values)[0, :, 5, 5].tolist() == [200, 100, 50]


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


def test_a_very_wide_image_needs_no_square_of_its_width(processor_class):
    image = PIL.Image.new("RGB", (20000, 10), (255, 255, 255))
    pixels = to_bytes(processor_class(size=256)(image, return_tensors="pt").pixel_values)[0, 0]
    assert pixels.shape == (256, 256) and pixels[100].max() == 0 and pixels[127:129].min() > 0


def test_do_rescale_false_keeps_the_range(processor_class):
    pixels = random_pixels(64, 64)
    processor = processor_class(size=64)
    scaled = processor(torch.from_numpy(pixels).permute(2, 0, 1) / 255, do_rescale=False, return_tensors="pt")
    assert torch.equal(scaled.pixel_values, processor(pixels, return_tensors="pt").pixel_values)
    raw = processor(pixels, do_rescale=False, return_tensors="pt").pixel_values
    assert (raw[0].numpy() == np.moveaxis(pixels, -1, 0)).all()
    with pytest.raises(ValueError, match="either all images lie in 0..1 or none"):
        processor([pixels, pixels / 255], do_rescale=False)


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


def test_mixed_input_data_format(processor_class):
    ambiguous = random_pixels(3, 40).astype(np.uint8)
    with pytest.raises(ValueError, match="input_data_format"):
        processor_class(size=64)(ambiguous)
    expected = processor_class(size=64)(PIL.Image.fromarray(ambiguous), return_tensors="pt").pixel_values
    actual = processor_class(size=64)(ambiguous, input_data_format="channels_last", return_tensors="pt").pixel_values
    assert torch.equal(actual, expected)


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is installed, so nothing is missing")
def test_without_torchvision_its_backend_says_so():
    with pytest.raises(ImportError, match="FastVLMImageProcessor requires the Torchvision library"):
        FastVLMImageProcessor()


@needs_torchvision
def test_device_is_where_the_output_is():
    image = PIL.Image.new("RGB", (40, 30))
    assert FastVLMImageProcessor(size=64)(image, device="cpu", return_tensors="pt").pixel_values.device.type == "cpu"


def encoded(image: PIL.Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def test_files_urls_and_encoded_images(processor_class, tmp_path):
    image = PIL.Image.fromarray(random_pixels(40, 72))
    data = encoded(image)
    (tmp_path / "picture.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    processor = processor_class(size=64)
    expected = processor(image, return_tensors="pt").pixel_values

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/picture.png"
        sources = [
            tmp_path / "picture.png",
            str(tmp_path / "picture.png"),
            data,
            text,
            f"data:image/png;base64,{text}",
            url,
        ]
        for source in sources:
            assert torch.equal(processor(source, return_tensors="pt").pixel_values, expected)
        server.shutdown()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(processor_class, tmp_path, orientation):
    """A camera held in any of eight ways: what the file shows a person is what the model sees."""
    scene = PIL.Image.fromarray(random_pixels(40, 72)).resize((72, 40), PIL.Image.Resampling.BICUBIC)
    # What the sensor recorded: the inverse of what a viewer does for this orientation.
    transposition = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }.get(orientation)
    recorded = scene.transpose(transposition) if transposition is not None else scene
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    recorded.save(path, exif=exif)
    processor = processor_class(size=64)
    expected = processor(scene, return_tensors="pt").pixel_values
    for source in (path, path.read_bytes(), PIL.Image.open(path), PIL.Image.open(path).convert("RGB")):
        assert torch.equal(processor(source, return_tensors="pt").pixel_values, expected)


def test_damaged_metadata_does_not_matter(processor_class):
    image = PIL.Image.fromarray(random_pixels(40, 72))
    expected = processor_class(size=64)(image, return_tensors="pt").pixel_values
    image.info["exif"] = b"no EXIF at all"
    assert torch.equal(processor_class(size=64)(image, return_tensors="pt").pixel_values, expected)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_named(processor_class, tmp_path, file_format):
    path = tmp_path / "half.img"
    data = encoded(PIL.Image.fromarray(random_pixels(90, 90)), file_format)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r"half\.img"):
        processor_class(size=64)(path)


def test_a_truncated_file_opened_by_the_user_is_named(processor_class, tmp_path):
    path = tmp_path / "half.jpg"
    data = encoded(PIL.Image.fromarray(random_pixels(90, 90)), "JPEG")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r"half\.jpg"):
        processor_class(size=64)(PIL.Image.open(path))


def test_files_that_are_none(processor_class, tmp_path):
    processor = processor_class(size=64)
    with pytest.raises(FileNotFoundError, match="no image file 'missing.png'"):
        processor("missing.png")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(OSError, match=r"notes\.txt"):
        processor(tmp_path / "notes.txt")
    with pytest.raises(OSError, match="<bytes>"):
        processor(b"no picture")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["array", "tensor", "PIL"])
def test_pixels_that_are_no_numbers(processor_class, kind, value):
    pixels = np.full((3, 20, 30), 0.5, dtype=np.float32)
    pixels[1, 2, 3] = value
    image = {"array": pixels, "tensor": torch.from_numpy(pixels), "PIL": PIL.Image.fromarray(pixels[1])}[kind]
    with pytest.raises(ValueError, match="NaN or infinite"):
        processor_class(size=64)(image)


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
