# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The vision encoder in OpenVINO: compiled by image size, compared with PyTorch, and shared by threads."""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from torch import nn
from transformers.utils import logging

from ..modeling_fastvithd import FastViTHDModel
from .openvino_conversion import convert
from .openvino_files import ConvertedEncoderFiles, openvino_core

logger = logging.get_logger(__name__)

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
# How far a right result may be from PyTorch's, as `largest_difference` has it: over 50 times what float32 and three
# times what bfloat16 and float16 rounded apart at most, over encoders of three sizes, 8 grids and noise, patches,
# smooth and white images.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.125, torch.float16: 0.02}
# Rounding to 8 bits moved calibration images by 0.04 to 0.4; features of another image are 1 or more away.
INT8_TOLERANCE = 0.7
COMPILED_SIZES = 8  # kept at a time


class OpenVinoEncoder:
    """
    From `(images, 3, height, width)` pixels to `(images, hidden_size, height / stride, width / stride)` features.

    Images run one by one, those of one size also when several threads have some. The first image of a size compiles
    it, which takes about a second, and runs an image of random patches in OpenVINO and PyTorch: where they disagree,
    this size is left to PyTorch, and a warning says so. Before that image, one of NaN goes the same way, so that parts
    of the memory that nothing writes to show. That finds sizes that are wrong, not a fault of some images or calls.

    Args:
        encoder: in the inference form; its dtype decides the precision.
        cache_dir: where converted encoders are kept; by default beside the Hub's cache.
        calibration_pixels: `(images, 3, height, width)` of the task, to choose the ranges of 8-bit integers by; `None`
            stays in floating point. The first one, resized, takes the place of random patches.
        compiled_sizes: how many image sizes stay compiled; the one that was not used for longest makes room.

    Raises:
        ValueError: if OpenVINO does not compute in the encoder's dtype, or `compiled_sizes` is not positive.
        OSError: if there is no converted encoder, and no room or no access to keep one.
    """

    def __init__(
        self,
        encoder: FastViTHDModel,
        cache_dir: Path | None = None,
        calibration_pixels: torch.Tensor | None = None,
        compiled_sizes: int = COMPILED_SIZES,
    ):
        if encoder.dtype not in PRECISIONS:
            raise ValueError(f"OpenVINO runs encoders in float32, bfloat16 and float16; this is in {encoder.dtype}.")
        if compiled_sizes < 1:
            raise ValueError(f"`compiled_sizes` must be at least 1, got {compiled_sizes}.")
        self.dtype = encoder.dtype
        folder = cache_dir or Path(HF_HOME) / "transformers-fastvlm"
        self.files = ConvertedEncoderFiles(folder, encoder, calibration_pixels)
        model = self.files.read()
        self.was_cached = model is not None
        self.model = self.files.write(lambda: convert(encoder, calibration_pixels)) if model is None else model
        self.example = None if calibration_pixels is None else calibration_pixels[:1].detach().clone()
        self.tolerance = TOLERANCES[self.dtype] if calibration_pixels is None else INT8_TOLERANCE
        self.compiled_sizes = compiled_sizes
        self.sizes: OrderedDict[tuple[int, int], _Size] = OrderedDict()  # those in use, the latest last
        self.is_right: dict[tuple[int, int], bool] = {}  # of every size met so far
        self.lock = threading.Lock()
        self.encoder, self.weights = encoder, _identity(encoder)

    def __deepcopy__(self, memo: dict) -> "OpenVinoEncoder":
        """The same compiled sizes, for the encoder's copy where that is what is being copied."""
        copied = memo.get(id(self.encoder))
        if copied is None:
            return self
        twin = object.__new__(OpenVinoEncoder)
        twin.__dict__.update(self.__dict__, encoder=copied)
        is_current = _identity(self.encoder) == self.weights
        twin.weights = [_state(memo[id(tensor)]) for tensor in _tensors(self.encoder)] if is_current else []
        return twin

    def __reduce__(self) -> Any:
        raise TypeError("An encoder in OpenVINO cannot be pickled: do that before `optimize_for_inference`.")

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor | None:
        """
        The features, in the encoder's dtype, or `None` where they are PyTorch's to compute, or to refuse: of sizes
        that OpenVINO gets wrong, of NaN and infinities, which OpenVINO may make numbers of, and of no pixels.

        Raises:
            RuntimeError: if the encoder's weights have changed since.
        """
        if _identity(self.encoder) != self.weights:
            raise RuntimeError("The encoder has changed since `optimize_for_inference`: call that again.")
        if not pixel_values.numel():
            return None
        images = pixel_values.detach().to(self.dtype).float().contiguous()
        if not images.sum().isfinite():
            return None
        sides = pixel_values.shape[2], pixel_values.shape[3]
        if self.is_right.get(sides) is False:
            return None
        size = self._latest(sides)
        with size.lock:  # of a request and its output; OpenVINO runs those of one size one after the other anyway
            if size.request is None:
                size.request = self._compile_and_compare(sides)
            if size.request is None:
                return None
            return torch.cat([_run(size.request, image).to(self.dtype) for image in images.split(1)])

    def _latest(self, sides: tuple[int, int]) -> "_Size":
        """What was kept of this size, or its beginning; forgets the size that was not used for longest."""
        with self.lock:
            size = self.sizes.setdefault(sides, _Size())
            self.sizes.move_to_end(sides)
            if len(self.sizes) > self.compiled_sizes:
                self.sizes.popitem(last=False)
            return size

    def _compile(self, sides: tuple[int, int]) -> Any:
        model = self.model.clone()  # shares the weights
        model.reshape([1, self.encoder.config.num_channels, *sides])
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return openvino_core().compile_model(model, "CPU", options).create_infer_request()

    def _compile_and_compare(self, sides: tuple[int, int]) -> Any | None:
        """A request of images of this size; `None`, which is remembered, if it does not give PyTorch's features."""
        request = None if self.is_right.get(sides) is False else self._compile(sides)
        if sides not in self.is_right:
            difference = self._difference(request, sides)
            self.is_right[sides] = difference <= self.tolerance  # NaN is not
            if not self.is_right[sides]:
                height, width = sides
                logger.warning(
                    f"OpenVINO's features of {height}x{width} pixels are {difference:.2g} of their length away from "
                    f"PyTorch's, more than the {self.tolerance:.2g} of rounding: PyTorch encodes images of this size."
                )
        if self.is_right[sides]:
            return request
        with self.lock:
            self.sizes.pop(sides, None)
        return None

    def _difference(self, request: Any, sides: tuple[int, int]) -> float:
        """Of the features of an example, by `largest_difference`, after memory was filled with NaN."""
        image = self._example(sides)
        _run(request, torch.full_like(image, float("nan")))
        features = _run(request, image)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            expected = self.encoder.pytorch_features(image)
        return largest_difference(features, expected.float())

    def _example(self, sides: tuple[int, int]) -> torch.Tensor:
        if self.example is not None:
            resized = nn.functional.interpolate(self.example.float(), sides, mode="bilinear", antialias=True)
            return resized.to(self.dtype).float()
        generator = torch.Generator().manual_seed(0)
        shape = 1, self.encoder.config.num_channels
        stride = self.encoder.config.stride
        options: dict[str, Any] = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
        patches = torch.rand(*shape, *(side // stride for side in sides), **options)
        noise = torch.rand(*shape, *sides, **options)
        return (0.7 * nn.functional.interpolate(patches, sides) + 0.3 * noise).to(self.dtype).float()


@dataclass
class _Size:
    """The request that runs images of a size, once it is compiled."""

    request: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def _run(request: Any, image: torch.Tensor) -> torch.Tensor:
    request.infer({0: image.numpy()})
    return torch.from_numpy(request.get_output_tensor(0).data.copy())  # the request's own memory is written to again


def largest_difference(features: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest distance at a position of `(images, channels, height, width)`, relative to the mean length there."""
    mean_length = expected.square().sum(1).mean().sqrt()
    return float((features - expected).norm(dim=1).max() / mean_length)


def _tensors(encoder: FastViTHDModel) -> Iterator[torch.Tensor]:
    return itertools.chain(encoder.parameters(), encoder.buffers())


def _identity(encoder: FastViTHDModel) -> list[tuple[int, int]]:
    """Changes as soon as a weight is written to or replaced, and takes no time."""
    return [_state(tensor) for tensor in _tensors(encoder)]


def _state(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version  # PyTorch does not count for the former
