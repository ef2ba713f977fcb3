# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Resizing an axis that padding has made longer, without the padding: Pillow's arithmetic on the image's pixels alone.

A resized pixel is a weighted sum over a window of the padded axis. Pillow rounds the weights to 22 fractional bits,
adds in integers and rounds once, so that what the padding adds is its colour times the sum of its weights, and only
the windows that touch the image have to be looked at. The cost is that of the image's pixels, whatever the padded
side is.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL.Image import Resampling

_ONE = 1 << 22  # a weight of 1, as Pillow writes it
# Windows of more pixels than this may round to weights whose sum changes the colour of what is all background.
_WINDOW_SUMMING_TO_ONE = _ONE // 256
# Outputs whose windows are multiplied at once, and how many values at most.
_OUTPUTS_AT_ONCE = 16
_VALUES_AT_ONCE = 1 << 21


def _bilinear(x: np.ndarray) -> np.ndarray:
    return np.where(x < 1, 1 - x, 0)


def _hamming(x: np.ndarray) -> np.ndarray:
    angle = np.where(x == 0, 1, x) * math.pi
    values = np.sin(angle) / angle * (float(np.float32(0.54)) + float(np.float32(0.46)) * np.cos(angle))
    return np.where(x == 0, 1, np.where(x < 1, values, 0))


def _bicubic(x: np.ndarray) -> np.ndarray:
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    def sinc(x: np.ndarray) -> np.ndarray:
        angle = np.where(x == 0, 1, x) * math.pi
        return np.where(x == 0, 1, np.sin(angle) / angle)

    return np.where(x < 3, sinc(x) * sinc(x / 3), 0)


# Support in pixels and weight by distance from the centre, as Pillow has them.
_FILTERS: dict[int, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    Resampling.BILINEAR: (1.0, _bilinear),
    Resampling.HAMMING: (1.0, _hamming),
    Resampling.BICUBIC: (2.0, _bicubic),
    Resampling.LANCZOS: (3.0, _lanczos),
}
_PILLOW = tuple(int(part) for part in PIL.__version__.split(".")[:2])


def resizes_columns_first(height: int, width: int, new_height: int, new_width: int) -> bool:
    """Whether the installed Pillow resizes an image's columns before its rows.

    The order shows in the pixels, since each pass rounds and clips to 8 bits. Until Pillow 12.1, rows came first.
    """
    if _PILLOW >= (13, 0):
        return new_height < height and height - new_height > 2 * (width - new_width)
    return _PILLOW >= (12, 2) and new_height < height and height > 100 * width


def is_narrow(height: int, width: int, side: int, resample: int, aspect_ratio: int) -> bool:
    """Whether [`resize_narrow`] is for an image: reduced, of this aspect ratio or more, with a filter known here."""
    long = max(height, width)
    return long > side and long >= aspect_ratio * min(height, width) and resample in _FILTERS


class _Windows(NamedTuple):
    """The windows of all pixels of a resized axis, of shape `(outputs,)`: centre, first pixel and the one after."""

    centers: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    stretch: float  # pixels of the axis for one unit of the filter


def _windows(length: int, side: int, support: float) -> _Windows:
    scale = length / side
    stretch = max(scale, 1.0)
    centers = (np.arange(side) + 0.5) * scale
    starts = np.maximum((centers - support * stretch + 0.5).astype(np.int64), 0)
    ends = np.minimum((centers + support * stretch + 0.5).astype(np.int64), length)
    return _Windows(centers, starts, ends, stretch)


def _weights(windows: _Windows, output: int, weigh: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The weights of a window in units of 2⁻²², whole numbers as float64, of shape `(pixels of the window,)`."""
    pixels = np.arange(windows.starts[output], windows.ends[output])
    weights = weigh(np.abs((pixels - windows.centers[output] + 0.5) * (1.0 / windows.stretch)))
    total = np.add.accumulate(weights)[-1]  # one after the other, as Pillow adds
    return np.trunc(weights / total * _ONE + np.copysign(0.5, weights))


@functools.lru_cache(maxsize=32)
def _background_weights(length: int, side: int, resample: int) -> np.ndarray:
    """The summed weights of each window of an axis resized from `length` to `side`, of shape `(side,)`."""
    support, weigh = _FILTERS[resample]
    windows = _windows(length, side, support)
    sums = np.full(side, float(_ONE))
    for output in np.flatnonzero(windows.ends - windows.starts > _WINDOW_SUMMING_TO_ONE):
        sums[output] = _weights(windows, int(output), weigh).sum()
    return sums


def _round_to_8bit(sums: torch.Tensor) -> torch.Tensor:
    """Weighted sums in units of 2⁻²², to 8 bits as Pillow rounds and clips them."""
    return sums.add_(_ONE // 2).div_(_ONE).floor_().clamp_(0, 255).to(torch.uint8)


def _exact(device: torch.device) -> torch.dtype:
    """The type whose sums are exact; MPS has only one whose sums are nearly so."""
    return torch.float32 if device.type == "mps" else torch.float64


def resize_narrow(
    image: torch.Tensor, side: int, resample: int, colors: torch.Tensor, resize: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """
    An image padded to a centred square of its longer side, then resized, row by row and then column by column.

    Args:
        image (`torch.Tensor`): uint8, of shape `(channels, height, width)`, see [`is_narrow`].
        side (`int`): the resized square's side in pixels, less than the image's longer side.
        resample (`int`): one of Pillow's filters.
        colors (`torch.Tensor`): uint8 colours of the padding, of shape `(channels,)`.
        resize (`Callable`): resizes images like this to `(image, height, width)` along one axis.

    Returns:
        uint8 of shape `(channels, side, side)`.
    """
    height, width = image.shape[-2:]
    long = max(height, width)
    weights = torch.from_numpy(_background_weights(long, side, resample)).to(image.device, _exact(image.device))
    if bool((weights == _ONE).all()):
        padding = colors[:, None].expand(-1, side)
        canvas = colors[:, None, None].repeat(1, side, side)
    else:
        padding = _round_to_8bit(colors[:, None] * weights)  # (channels, columns), after the rows are resized
        canvas = _round_to_8bit(padding[:, None] * weights[:, None])
    if width > height:
        rows = resize(image, height, side)
        first, resized = _resize_padded_axis(rows.transpose(-1, -2), long, side, resample, padding)
        canvas[:, first : first + resized.shape[-1]] = resized.transpose(-1, -2)
    else:
        first, columns = _resize_padded_axis(image, long, side, resample, colors[:, None])
        canvas[:, :, first : first + columns.shape[-1]] = resize(columns, side, columns.shape[-1])
    return canvas


def _resize_padded_axis(
    pixels: torch.Tensor, length: int, side: int, resample: int, background: torch.Tensor
) -> tuple[int, torch.Tensor]:
    """
    The last axis of `pixels`, padded to `length` around its middle and resized to `side`, where the image has a part.

    Args:
        pixels (`torch.Tensor`): uint8, of shape `(channels, others, pixels)`.
        length (`int`): the axis' length in pixels when padded, half a pixel less before the image than after it.
        side (`int`): the axis' length when resized.
        resample (`int`): one of Pillow's filters.
        background (`torch.Tensor`): uint8 colours of the padding, of shape `(channels, others or 1)`.

    Returns:
        The first output that the image has a part in, and the outputs from there to the last such one: uint8 of shape
        `(channels, others, outputs)`, equal to Pillow's.
    """
    channels, others, count = pixels.shape
    top = (length - count) // 2
    support, weigh = _FILTERS[resample]
    windows = _windows(length, side, support)
    touched = np.flatnonzero((windows.ends > top) & (windows.starts < top + count))
    exact = _exact(pixels.device)
    resized = pixels.new_empty(channels, others, len(touched))
    for first in range(0, len(touched), _OUTPUTS_AT_ONCE):
        outputs = touched[first : first + _OUTPUTS_AT_ONCE]
        low = max(int(windows.starts[outputs[0]]) - top, 0)
        high = min(int(windows.ends[outputs[-1]]) - top, count)
        weights = np.zeros((high - low, len(outputs)))
        padding = np.zeros(len(outputs))
        for column, output in enumerate(outputs):
            start, end = int(windows.starts[output]) - top, int(windows.ends[output]) - top
            of_window = _weights(windows, output, weigh)
            of_image = of_window[max(-start, 0) : len(of_window) - max(end - count, 0)]
            weights[max(start, 0) - low : min(end, count) - low, column] = of_image
            padding[column] = of_window.sum() - of_image.sum()
        on_device = torch.from_numpy(weights).to(pixels.device, exact)
        constant = background[..., None] * torch.from_numpy(padding).to(pixels.device, exact)
        step = max(_VALUES_AT_ONCE // ((high - low) * channels), 1)
        for left in range(0, others, step):
            part = slice(left, left + step)
            sums = pixels[:, part, low:high].to(exact) @ on_device
            sums += constant if background.shape[1] == 1 else constant[:, part]
            resized[:, part, first : first + len(outputs)] = _round_to_8bit(sums)
    return int(touched[0]), resized
