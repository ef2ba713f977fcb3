# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""From an opened photograph to pixels: our image processors beside transformers', in turn."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from transformers_fastvlm.benchmark.configurations import OURS
from transformers_fastvlm.benchmark.synthetic import write_photograph
from transformers_fastvlm.benchmark.timing import Timing, interleaved_latencies, thread_count
from transformers_fastvlm.extras import require
from transformers_fastvlm.image_reading import read_image
from transformers_fastvlm.processing_fastvlm import image_processor_class_of

RESOLUTION = 1024
WIDTH, HEIGHT = 4000, 3000  # 12 megapixels


def _as_the_original(image: Image.Image) -> torch.Tensor:
    """The authors' way, written out: pad to a centred square, bicubic resize by Pillow, values in 0..1."""
    side = max(image.size)
    square = Image.new("RGB", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    resized = square.resize((RESOLUTION, RESOLUTION), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None] / 255


def _processors() -> dict[str, Callable[..., Any]]:
    from transformers import CLIPImageProcessor, LlavaImageProcessor

    square = {"height": RESOLUTION, "width": RESOLUTION}
    upstream: dict[str, Any] = {"size": {"shortest_edge": RESOLUTION}, "crop_size": square, "do_normalize": False}
    ours: Any = image_processor_class_of
    return {
        OURS: ours("pil")(size=RESOLUTION),
        "ours-torchvision": ours("torchvision")(size=RESOLUTION),
        "upstream-padded": LlavaImageProcessor(do_pad=True, **upstream),  # does not crop anything off
        "upstream": CLIPImageProcessor(**upstream),  # as its checkpoints come
    }


def run_preprocessing_benchmark(
    repetitions: int = 15, warmup: int = 2, threads: int | None = None
) -> tuple[dict[str, Timing], dict[str, float]]:
    """
    Time a photograph of 12 megapixels to 1024x1024 pixels.

    Returns:
        timings by processor, `"ours"` being the one on Pillow; and the largest difference of each from the original's
        pixels in 0..1, `nan` for another shape or crop.

    Raises:
        MissingLibraryError: if torchvision is not installed.
    """
    require(["torchvision"], "vision", "Upstream's image processor")
    with thread_count(threads), tempfile.TemporaryDirectory() as folder:
        image = read_image(write_photograph(Path(folder), WIDTH, HEIGHT))
        image.load()
        processors = _processors()
        calls = {name: partial(processor, image, return_tensors="pt") for name, processor in processors.items()}
        expected = _as_the_original(image)
        differences = {name: float((call()["pixel_values"] - expected).abs().max()) for name, call in calls.items()}
        latencies = interleaved_latencies(calls, repetitions, warmup, torch.device("cpu"))
    return {name: Timing(seconds) for name, seconds in latencies.items()}, differences
