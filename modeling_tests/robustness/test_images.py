# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Any image either becomes the pixels that Pillow by hand makes of it, or is refused clearly."""

import base64
import functools
import io
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from hypothesis import strategies as st
from transformers.utils import is_torchvision_available

from robustness.harness import Refused, attempt, fuzzed
from robustness.oracles import copied, crops_by_hand, levels_of_file, same
from robustness.strategies import (
    IMAGE_OPTIONS,
    NOT_A_DICTIONARY,
    ODD_VALUES,
    SOUND_IMAGE_OPTIONS,
    array_pictures,
    damaged_bytes,
    image_files,
    options,
    pil_pictures,
)
from transformers_fastvlm import FastVLMImageProcessorPil
from transformers_fastvlm.image_processing_fastvlm import FastVLMImageProcessor

SIDE = 64
BACKENDS = ["pil", "torchvision"] if is_torchvision_available() else ["pil"]


def new_processor(backend: str):
    return (FastVLMImageProcessorPil if backend == "pil" else FastVLMImageProcessor)(size=SIDE)


# Used over and over, as in a server: whatever one call leaves behind, the next ones see.
used_processor = functools.cache(new_processor)
backends = st.sampled_from(BACKENDS)
PILLOW_ALONE = (PIL.Image.Resampling.BOX, PIL.Image.Resampling.HAMMING)
pictures = st.one_of(pil_pictures(), array_pictures())


def assert_pixels(backend: str, pixel_values, expected: np.ndarray) -> None:
    assert pixel_values.dtype == torch.float32
    assert pixel_values.shape == expected.shape
    difference = np.abs(pixel_values.double().numpy() * 255 - expected)
    assert difference.max() < (0.01 if backend == "pil" else 2.01), difference.max()


@fuzzed(120, backend=backends, picture=pictures, settings=SOUND_IMAGE_OPTIONS)
def test_any_form_of_an_image_gives_its_pixels(backend, picture, settings):
    before = copied(picture.image)
    outputs = used_processor(backend)(picture.image, return_tensors="pt", **picture.options, **settings)
    expected = crops_by_hand(picture.levels, settings, SIDE)
    assert_pixels(backend, outputs["pixel_values"], expected)
    assert outputs.get("num_crops", torch.tensor([1])).tolist() == [len(expected)]
    assert same(copied(picture.image), before)


@fuzzed(25, backend=backends, given=st.lists(pil_pictures(), min_size=1, max_size=4), settings=SOUND_IMAGE_OPTIONS)
def test_a_batch_gives_what_each_gives_alone(backend, given, settings):
    images = [picture.image for picture in given]
    together = used_processor(backend)(images, return_tensors="pt", **settings)["pixel_values"]
    alone = [new_processor(backend)(image, return_tensors="pt", **settings)["pixel_values"] for image in images]
    assert torch.equal(together, torch.cat(alone))


@fuzzed(60, backend=backends, data=st.one_of(image_files(), damaged_bytes(image_files()), st.binary(max_size=40)))
def test_a_damaged_file_is_read_as_pillow_does_or_refused(backend, data):
    expected = levels_of_file(data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(data)
        forms = {"<bytes>": data, str(path): str(path), "picture": path}
        if len(data) > 300:
            forms["data:"] = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        for name, source in forms.items():
            outputs = attempt(lambda source=source: used_processor(backend)(source, return_tensors="pt"), name)
            if expected is None:
                assert isinstance(outputs, Refused) and issubclass(outputs.kind, OSError), outputs
                assert name in outputs.message, outputs.message
            else:
                assert not isinstance(outputs, Refused), outputs
                assert_pixels(backend, outputs["pixel_values"], crops_by_hand(expected, {}, SIDE))


@fuzzed(40, backend=backends, data=damaged_bytes(image_files()))
def test_a_damaged_image_that_pillow_opened_is_read_or_refused(backend, data):
    try:
        image = PIL.Image.open(io.BytesIO(data))
    except Exception:
        return
    expected = levels_of_file(data)
    outputs = attempt(lambda: used_processor(backend)(image, return_tensors="pt"), "cannot be read")
    assert isinstance(outputs, Refused) == (expected is None), outputs
    if expected is not None:
        assert_pixels(backend, outputs["pixel_values"], crops_by_hand(expected, {}, SIDE))


@fuzzed(100, backend=backends, picture=pictures, chosen=options(IMAGE_OPTIONS))
def test_options_mean_the_same_to_a_used_and_a_new_processor(backend, picture, chosen):
    chosen = {"return_tensors": "pt", **picture.options, **chosen}
    before = copied(picture.image), copied(chosen)
    used, new = (
        attempt(lambda processor=processor: dict(processor(picture.image, **chosen)), *chosen)
        for processor in (used_processor(backend), new_processor(backend))
    )
    assert repr(used) == repr(new) if isinstance(used, Refused) else same(used, new)
    assert same((copied(picture.image), copied(chosen)), before)
    if not isinstance(used, Refused) and isinstance(used["pixel_values"], torch.Tensor):
        assert torch.isfinite(used["pixel_values"]).all()


@fuzzed(40, picture=pictures, chosen=options(IMAGE_OPTIONS, 2))
def test_both_backends_take_and_refuse_the_same(picture, chosen):
    if len(BACKENDS) < 2 or chosen.get("resample") in PILLOW_ALONE:
        return
    chosen = {"return_tensors": "pt", **picture.options, **chosen}
    pil, torchvision = (
        attempt(lambda backend=backend: used_processor(backend)(picture.image, **chosen), *chosen)
        for backend in BACKENDS
    )
    assert isinstance(pil, Refused) == isinstance(torchvision, Refused), (pil, torchvision)
    if not isinstance(pil, Refused) and isinstance(pil["pixel_values"], torch.Tensor):
        assert pil["pixel_values"].shape == torchvision["pixel_values"].shape
        assert pil["pixel_values"].dtype == torchvision["pixel_values"].dtype


SOURCES = ["", "x" * 300, "\0", "/", ".", "~", "file:///", "data:,", "data:image/png;base64,AAAA", "a/" * 3000]
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 5, 64]), max_size=4)
DTYPES = st.sampled_from(["f8", "f2", "c8", "i8", "u8", "O", "S4", "M8[s]", "m8[s]", "?"])


def odd_tensor(kind: str) -> torch.Tensor:
    zeros = torch.zeros(3, 8, 8)
    if kind == "quantized":
        return torch.quantize_per_tensor(zeros, 1.0, 0, torch.quint8)
    return {"meta": zeros.to("meta"), "sparse": zeros.to_sparse(), "complex": zeros.to(torch.complex64)}[kind]


ODD_ARRAYS = st.one_of(
    st.tuples(SHAPES, DTYPES).map(lambda drawn: np.zeros(*drawn)),
    SHAPES.map(torch.zeros),
    st.sampled_from([math.nan, math.inf, -1.0, 256.0, 1e38]).map(lambda value: torch.full((3, 8, 8), value)),
    st.sampled_from([math.nan, -math.inf, -1, 256, 2**40]).map(lambda value: np.full((8, 8, 3), value)),
    st.sampled_from(["meta", "sparse", "complex", "quantized"]).map(odd_tensor),
    st.sampled_from([(0, 5), (5, 0), (0, 0)]).map(lambda size: PIL.Image.new("RGB", size)),
)
ODD_IMAGES = st.recursive(
    st.one_of(ODD_VALUES, NOT_A_DICTIONARY, st.sampled_from(SOURCES), ODD_ARRAYS, ODD_ARRAYS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["url", "image"]), inner)),
    max_leaves=4,
)


@fuzzed(80, backend=backends, value=ODD_IMAGES)
def test_what_is_no_image_is_refused(backend, value):
    terms = [value] if isinstance(value, str) and value else []
    outputs = attempt(lambda: used_processor(backend)(value, return_tensors="pt"), "image", *map(os.fspath, terms))
    if not isinstance(outputs, Refused):
        assert torch.isfinite(outputs["pixel_values"]).all()
        assert outputs["pixel_values"].shape[1:] == (3, SIDE, SIDE)
