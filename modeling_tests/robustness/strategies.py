# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the properties are tried on: images and files of them, prompts, options, configurations, checkpoint folders."""

import copy
import io
import json
import math
from typing import Any

import numpy as np
import PIL.Image
import torch
from hypothesis import strategies as st

# Sides of images: ordinary ones, single lines, very long ones.
SIDES = st.one_of(st.integers(1, 90), st.sampled_from([1, 2, 3, 4, 63, 64, 65, 127, 128, 129]))
LONG_SIDES = st.sampled_from([257, 700, 1500])
# What a value of an option or a file may be instead of the right one.
ODD_VALUES = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 2, 3, 7, 64, 10**6, 10**9, 2**31, 2**63, -(2**63)]),
    st.sampled_from([0.0, 0.5, -1.5, 1e30, math.nan, math.inf, -math.inf, "", "64", "abc", "\ud800"]),
    st.sampled_from([[], [0], [1, 2], [[]], {}, {"a": 1}, [None]]),
    st.integers(-5, 300),
    st.text(max_size=3),
)


def noise(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """(height, width, channels) levels, uint8; seed 0 is black, 1 white, 2 a gradient."""
    if seed < 2:
        return np.full((height, width, channels), 255 * seed, dtype=np.uint8)
    if seed == 2:
        rows = np.linspace(0, 255, height * width * channels).reshape(height, width, channels)
        return rows.astype(np.uint8)
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@st.composite
def sizes(draw) -> tuple[int, int]:
    """(height, width), sometimes of a long line."""
    short, long = draw(SIDES), draw(st.one_of(SIDES, LONG_SIDES))
    if long > 200:
        short = min(short, 8)
    return (short, long) if draw(st.booleans()) else (long, short)


class Picture:
    """An image as it is given, and its RGB levels, (height, width, 3) in uint8."""

    def __init__(self, image: Any, levels: np.ndarray, form: str, options: dict[str, Any] | None = None):
        self.image, self.levels, self.form, self.options = image, levels, form, options or {}

    def __repr__(self) -> str:
        return f"Picture({self.form}, {'×'.join(map(str, self.levels.shape[:2]))}, {self.options})"


PIL_MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"]
DEEP_MODES = ["I;16", "I;16B", "I", "F"]


@st.composite
def pil_pictures(draw) -> Picture:
    height, width = draw(sizes())
    mode, seed = draw(st.sampled_from(PIL_MODES + DEEP_MODES)), draw(st.integers(0, 50))
    if mode in DEEP_MODES:
        return deep_picture(mode, noise(height, width, 1, seed)[..., 0])
    bands = PIL.Image.getmodebands(mode)
    if mode == "1":
        image = PIL.Image.fromarray(noise(height, width, 1, seed)[..., 0]).convert("1")
    elif mode == "P":
        image = PIL.Image.fromarray(noise(height, width, 3, seed)).quantize(max(2, seed))
        if seed % 2:
            image.info["transparency"] = 0
    else:
        data = noise(height, width, bands, seed)
        image = PIL.Image.frombytes(mode, (width, height), data.tobytes())
    plain = image.convert("LA") if mode == "La" else image
    return Picture(image, np.asarray(plain.convert("RGB")), f"PIL {mode}")


def deep_picture(mode: str, grey: np.ndarray) -> Picture:
    """A grey image of more than 8 bits whose levels are those of `grey`."""
    if mode == "F":
        image = PIL.Image.fromarray(grey.astype(np.float32) / np.float32(255))
        if grey.max() == 0:
            grey = np.zeros_like(grey)
    elif mode == "I":
        image = PIL.Image.fromarray(grey.astype(np.int32))
    else:
        order = ">u2" if mode.endswith("B") else "<u2"
        values = (grey.astype(np.uint16) * 257).astype(order)
        image = PIL.Image.frombytes(mode, grey.shape[::-1], values.tobytes())
    return Picture(image, np.repeat(grey[..., None], 3, -1), f"PIL {mode}")


ARRAY_TYPES = ["uint8", "bool", "uint16", ">u2", "int16", "int32", "int64", "float16", "float32", "float64", ">f4"]
TENSOR_TYPES = [torch.uint8, torch.bool, torch.uint16, torch.int16, torch.int32, torch.int64, torch.float16]
TENSOR_TYPES += [torch.float32, torch.float64, torch.bfloat16]


def as_dtype(levels: np.ndarray, kind: str, unit: bool) -> tuple[np.ndarray, np.ndarray]:
    """The values that stand for levels in a dtype, and the levels that they then stand for."""
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return levels > 127, np.where(levels > 127, 255, 0).astype(np.uint8)
    if dtype.name == "uint16":
        return (levels.astype(np.uint16) * 257).astype(kind), levels
    if dtype.kind != "f":
        return levels.astype(kind), levels
    if unit:
        values = (levels / 255).astype(kind)
        return values, np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    if levels.max() <= 1:  # floats in 0..1 are taken for 0..1
        levels = np.where(levels == levels.max(), 255, levels).astype(np.uint8)
    return levels.astype(kind), levels


@st.composite
def array_pictures(draw) -> Picture:
    """NumPy arrays and tensors of every dtype, with grey, RGB or RGBA channels first, last or none."""
    height, width = draw(sizes())
    channels, seed = draw(st.sampled_from([1, 2, 3, 4])), draw(st.integers(0, 50))
    unit, as_tensor = draw(st.booleans()), draw(st.booleans())
    kind = draw(st.sampled_from([name for name in ARRAY_TYPES if not (as_tensor and name.startswith(">"))]))
    values, levels = as_dtype(noise(height, width, channels, seed), kind, unit)
    rgb = levels[..., :3] if channels > 2 else np.repeat(levels[..., :1], 3, -1)
    layout = draw(st.sampled_from(["first", "last"] + ["none"] * (channels == 1)))
    options = {} if layout == "none" else {"input_data_format": f"channels_{layout}"}
    if layout == "first":
        values = np.moveaxis(values, -1, 0)
    elif layout == "none":
        values = values[..., 0]
    twist = draw(st.sampled_from(["", "strided", "flipped", "read-only", "grad"]))
    if twist == "strided":
        values = np.repeat(values, 2, axis=0)[::2]
    elif twist == "flipped" and not as_tensor:
        values = values[:, ::-1].copy()[:, ::-1]
    elif twist == "read-only":
        values = np.ascontiguousarray(values)
        values.flags.writeable = as_tensor
    image: Any = values
    if as_tensor:
        image = torch.from_numpy(np.ascontiguousarray(values))
        if twist == "strided":
            image = torch.from_numpy(np.repeat(values, 2, axis=-1))[..., ::2]
        if twist == "grad" and image.is_floating_point():
            image.requires_grad_()
        if kind == "float32" and draw(st.booleans()):
            image = image.bfloat16()
            exact = image.double().detach().numpy()
            back = np.rint(exact * 255 if exact.max() <= 1 else exact).astype(np.uint8)
            back = back[..., None] if layout == "none" else np.moveaxis(back, 0, -1) if layout == "first" else back
            rgb = back[..., :3] if channels > 2 else np.repeat(back[..., :1], 3, -1)
    return Picture(image, rgb, f"{type(image).__name__} {kind} {layout} of {channels} {twist}", options)


FILE_FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "TGA"]


@st.composite
def image_files(draw) -> bytes:
    """A sound image file."""
    file_format = draw(st.sampled_from(FILE_FORMATS))
    height, width = draw(SIDES), draw(SIDES)
    mode = draw(
        st.sampled_from(["RGB", "L"] + (["RGBA", "P"] if file_format in ("PNG", "WEBP", "GIF", "TIFF") else []))
    )
    image = PIL.Image.fromarray(noise(height, width, 3, draw(st.integers(0, 20)))).convert(mode)
    options: dict[str, Any] = {}
    if file_format in ("PNG", "JPEG", "WEBP", "TIFF") and draw(st.booleans()):
        exif = PIL.Image.Exif()
        exif[0x0112] = draw(st.integers(0, 9))
        options["exif"] = exif
    if file_format in ("GIF", "WEBP", "TIFF") and draw(st.booleans()):
        options |= {"save_all": True, "append_images": [image.transpose(PIL.Image.Transpose.ROTATE_180)]}
    if file_format == "JPEG" and draw(st.booleans()):
        options["progressive"] = True
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


@st.composite
def damaged_bytes(draw, sound: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with some changed, cut off, taken out, put in or repeated; most often near their beginning."""
    data = bytearray(draw(sound))
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        end = min(len(data), draw(st.sampled_from([32, 128, len(data)])))
        where = draw(st.integers(0, end - 1))
        kind = draw(st.sampled_from(["set", "set", "flip", "cut", "remove", "insert", "repeat"]))
        if kind == "set":
            data[where] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x20]))
        elif kind == "flip":
            data[where] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[where:]
        elif kind == "remove":
            del data[where : where + draw(st.integers(1, 16))]
        elif kind == "insert":
            data[where:where] = draw(st.binary(min_size=1, max_size=8))
        else:
            data[where:where] = data[where : where + 16]
    return bytes(data)


SPECIAL_TEXT = ["<image>", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<image", "image>", "<IMAGE>", "\n", "\0"]
WORDS = st.one_of(
    st.sampled_from(
        [*SPECIAL_TEXT, " ", "the user", "é", "e\u0301", "\u200b", "你好", "👩‍👩‍👧", "ﷺ", "\r\n", "\t", "{{ x }}"]
    ),
    st.text(max_size=12),
)
SURROGATES = st.sampled_from(["\ud800", "a\udfff", "\ud83d x"])


@st.composite
def prompts(draw, images: int | None = None) -> str:
    """Text in which `<image>` stands as often as asked for; if it does not matter, sometimes with lone surrogates."""
    pieces = [word.replace("<image>", "<img>") for word in draw(st.lists(WORDS, max_size=6))]
    if images is None:
        pieces += draw(st.lists(st.one_of(st.just("<image>"), SURROGATES), max_size=2))
    if draw(st.integers(0, 9)) == 0:
        pieces.append("long " * draw(st.sampled_from([50, 500])))
    text = "".join(draw(st.permutations(pieces)))
    if images is None:
        return text
    characters = list(text.replace("<image>", "<img>"))
    for _ in range(images):
        characters.insert(draw(st.integers(0, len(characters))), "<image>")
    return "".join(characters)


IMAGE_OPTIONS = {
    "size": st.one_of(
        st.sampled_from([64, 128, 192, {"shortest_edge": 64}, {"height": 128, "width": 128}, [64, 64], (128, 128)]),
        st.sampled_from([0, -64, 100, "64", 64.0, True, {"height": 64}, {"height": 64, "width": 128}, [64], {}, []]),
    ),
    "crop_size": st.sampled_from([64, 128, None, 0, -1, 256, {"height": 64, "width": 64}, "64", 63]),
    "do_tile": st.sampled_from([True, False, None, 1, "yes", 0]),
    "image_grid_pinpoints": st.one_of(
        st.sampled_from([[[128, 128]], [[64, 192]], [[128, 64], [64, 128]], ((128, 256),), None, []]),
        st.sampled_from(
            [[64, 64], [[0, 64]], [[64]], [[-64, 64]], "[[128, 128]]", [[100, 100]], {}, 64, [[64.0, 64]]]
        ),
        st.sampled_from([[[64 * 10**5, 64 * 10**5]], [["64", "64"]], [None], [[True, 64]]]),
    ),
    "background_color": st.sampled_from(
        [0, 255, [1, 2, 3], (9, 8, 7), None, 256, -1, [1], [1, 2], "red", 0.5, True, []]
    ),
    "do_resize": st.sampled_from([True, False, None]),
    "do_pad": st.sampled_from([True, False, None]),
    "do_center_crop": st.sampled_from([True, False, None]),
    "do_rescale": st.sampled_from([True, False, None]),
    "do_normalize": st.sampled_from([True, False]),
    "do_convert_rgb": st.sampled_from([True, False, None]),
    "rescale_factor": st.sampled_from([1 / 255, 1, 0, -1, None, "a", math.nan]),
    "image_mean": st.sampled_from([0.5, [0.5] * 3, [0.1, 0.2], None, "a", []]),
    "image_std": st.sampled_from([0.5, [0.5] * 3, [0.0] * 3, None, 0]),
    "resample": st.sampled_from([0, 1, 2, 3, 4, 5, 6, 99, None, "bicubic", -1]),
    "input_data_format": st.sampled_from(["channels_first", "channels_last", None, "none", 3]),
    "return_tensors": st.sampled_from(["pt", "np", None, "tf", "x", 1]),
    "pad_size": st.sampled_from([None, 64, {"height": 64, "width": 64}]),
    "device": st.sampled_from(["cpu", None]),
    "disable_grouping": st.booleans(),
}
TEXT_OPTIONS = {
    "padding": st.sampled_from([True, False, "longest", "max_length", "do_not_pad", None, "bogus", 1, 2]),
    "padding_side": st.sampled_from(["left", "right", "middle", None, 3]),
    "truncation": st.sampled_from([True, False, "longest_first", "only_first", "only_second", "bogus", None]),
    "max_length": st.sampled_from([None, 1, 3, 8, 40, 600, 0, -1, 10**9, "5", 2.5, True]),
    "stride": st.sampled_from([0, 1, 2, -1, 100]),
    "pad_to_multiple_of": st.sampled_from([None, 1, 8, 64, 0, -8, "8"]),
    "add_special_tokens": st.booleans(),
    "return_tensors": st.sampled_from(["pt", "np", None, "tf", "x"]),
    "return_attention_mask": st.sampled_from([True, False, None]),
    "return_offsets_mapping": st.booleans(),
    "return_special_tokens_mask": st.booleans(),
    "return_overflowing_tokens": st.booleans(),
    "return_length": st.booleans(),
    "is_split_into_words": st.booleans(),
    "no_such_option": st.just(1),
    "text_pair": st.sampled_from([None, "more"]),
}


def options(table: dict[str, st.SearchStrategy], most: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """A few options of a table, sound or not."""
    names = st.lists(st.sampled_from(sorted(table)), max_size=most, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: table[name] for name in chosen}))


SOUND_IMAGE_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "size": st.sampled_from([64, 128, {"shortest_edge": 64}, {"height": 128, "width": 128}]),
        "do_tile": st.booleans(),
        "background_color": st.sampled_from([0, 7, [1, 2, 3], (250, 0, 99)]),
    },
)
SOUND_TEXT_OPTIONS = st.fixed_dictionaries(
    {"padding": st.just(True)},
    optional={"padding_side": st.sampled_from(["left", "right"]), "pad_to_multiple_of": st.sampled_from([1, 8, 64])},
)


class Labelled:
    """A large value, and in a few words what is wrong with it."""

    def __init__(self, value: Any, label: str):
        self.value, self.label = value, label

    def __repr__(self) -> str:
        return f"Labelled({self.label})"


def leaves(tree: Any, path: tuple = ()) -> list[tuple]:
    """Paths to everything in nested dictionaries and lists."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [*([path] if path else []), *(leaf for key, value in inner for leaf in leaves(value, (*path, key)))]


class Damaged:
    """Nested dictionaries and lists, and what was done to them: paths, and the values put there."""

    def __init__(self, tree: Any):
        self.tree = copy.deepcopy(tree)
        self.done: list[tuple[tuple, Any]] = []

    def __repr__(self) -> str:
        return f"Damaged({self.done})"

    @property
    def names(self) -> list[str]:
        """The keys on the way to what was changed."""
        return [key for path, _ in self.done for key in path if isinstance(key, str)]


@st.composite
def damaged_trees(draw, tree: Any, changes: int = 2) -> Damaged:
    """A copy of nested dictionaries and lists with one or two entries replaced or left out."""
    damaged = Damaged(tree)
    for _ in range(draw(st.integers(1, changes))):
        paths = leaves(damaged.tree)
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        place = damaged.tree
        for key in path[:-1]:
            place = place[key]
        value = draw(st.one_of(st.just("DELETE"), ODD_VALUES, ODD_VALUES))
        if isinstance(value, str) and value == "DELETE":
            del place[path[-1]]
        else:
            place[path[-1]] = copy.deepcopy(value)  # the next change may be one of it
        damaged.done.append((path, value))
    return damaged


def to_json(tree: Any) -> str:
    """JSON as Python writes it, `NaN` and lone surrogates included."""
    return json.dumps(tree)


NOT_A_DICTIONARY = st.sampled_from(
    [b"", b"null", b"[]", b"[1]", b"3", b'"x"', b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}", b"NaN", b"{'a': 1}"]
)
