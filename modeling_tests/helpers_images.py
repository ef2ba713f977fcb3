# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures to process, both backends, and the original's preprocessing in its plain form."""

import numpy as np
import PIL.Image
import pytest
import torch
from transformers.utils import is_torchvision_available

from transformers_fastvlm.image_processing_fastvlm import FastVLMImageProcessor
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil

HAS_TORCHVISION = is_torchvision_available()
needs_torchvision = pytest.mark.skipif(
    not HAS_TORCHVISION, reason="torchvision, an optional package, is not installed"
)
backends = pytest.mark.parametrize(
    "processor_class",
    [FastVLMImageProcessorPil, pytest.param(FastVLMImageProcessor, marks=needs_torchvision)],
    ids=["pil", "torchvision"],
)


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


def original_pixels(
    image: PIL.Image.Image, side: int, color=(0, 0, 0), resample=PIL.Image.Resampling.BICUBIC
) -> np.ndarray:
    """The original's preprocessing in its plain form: pad the whole image, then resize it."""
    image = image.convert("RGB")
    long = max(image.size)
    canvas = PIL.Image.new("RGB", (long, long), color)
    canvas.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
    return np.moveaxis(np.asarray(canvas.resize((side, side), resample)), -1, 0).astype(int)


def assert_agrees(processor_class: type, actual: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(actual - expected)
    if processor_class is FastVLMImageProcessorPil:
        assert difference.max() == 0
    else:
        assert difference.max() <= 2 and difference.mean() <= 0.2
