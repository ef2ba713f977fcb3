# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Image processor on torchvision: the original's preprocessing to within 2/255, on any device."""

from functools import partial
from typing import Any

import numpy as np
import PIL.Image
import torch
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_transforms import get_resize_output_image_size
from transformers.image_utils import ChannelDimension, PILImageResampling, SizeDict
from transformers.processing_utils import Unpack
from transformers.utils import requires_backends

from .image_processing_common_fastvlm import (
    FastVLMImageProcessorKwargs,
    FastVLMImageProcessorMixin,
    fit_within,
    select_grid,
)
from .image_reading import loaded, to_rgb, upright
from .image_values import AnyImage, check_channels, is_channels_first, to_8bit_tensor
from .padded_resize import is_narrow, resize_narrow, resizes_columns_first

# Rows padded at a time, so that the padded square of a tall image never exists as a whole.
_STRIP_ROWS = 1024
# Narrower images are resized without their padding, which costs less from about here on. Of the filters known to that,
# torchvision has all on every device only from some release on.
_NARROW = 16
_NARROW_FILTERS = (PILImageResampling.BILINEAR, PILImageResampling.BICUBIC)


class FastVLMImageProcessor(FastVLMImageProcessorMixin, TorchvisionBackend):
    """FastVLM's image processor on torchvision. See [`FastVLMImageProcessorKwargs`] for its options."""

    valid_kwargs = FastVLMImageProcessorKwargs
    filters = frozenset(
        [
            PILImageResampling.NEAREST,
            PILImageResampling.LANCZOS,
            PILImageResampling.BILINEAR,
            PILImageResampling.BICUBIC,
        ]
    )

    def __init__(self, **kwargs: Unpack[FastVLMImageProcessorKwargs]):
        requires_backends(self, ["torchvision"])
        super().__init__(**kwargs)

    def process_image(  # type: ignore[override]
        self,
        image: AnyImage,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        device: torch.device | str | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """One image as a uint8 tensor of shape (channels, height, width) on `device`, RGB with `do_convert_rgb`."""
        if isinstance(image, PIL.Image.Image):
            image = np.array(to_rgb(image) if do_convert_rgb else upright(loaded(image)))
            input_data_format = ChannelDimension.LAST
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(_for_torch(image))
        image = image.detach().to(device)
        if image.ndim == 2:
            image, input_data_format = image[None], ChannelDimension.FIRST
        if not is_channels_first(image.shape, input_data_format):
            image = image.permute(2, 0, 1)
        image = to_8bit_tensor(image)
        if do_convert_rgb:
            return image[:3] if len(image) > 2 else image[:1].repeat(3, 1, 1)
        check_channels(len(image))
        return image

    def pad_to_square(self, image: torch.Tensor, background_color: int | tuple[int, ...] = 0) -> torch.Tensor:
        """The image, (channels, height, width), in the middle of a square of its longer side."""
        side = max(image.shape[-2:])
        return _on_canvas(image, side, side, background_color)

    def _channels(self, image: torch.Tensor) -> int:
        return len(image)

    def _to_pixels(  # type: ignore[override]
        self,
        crops: torch.Tensor | list[torch.Tensor],
        *,
        do_center_crop: bool,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        **kwargs,
    ) -> list[torch.Tensor]:
        (batch,) = [crops] if isinstance(crops, torch.Tensor) else [crop[None] for crop in crops]
        if do_center_crop:
            batch = self.center_crop(batch, crop_size)
        return list(self.rescale_and_normalize(batch, do_rescale, rescale_factor, do_normalize, image_mean, image_std))

    def _resize_to(self, image: torch.Tensor, height: int, width: int, resample: Any) -> torch.Tensor:
        """The image resized, one axis after the other: rounded and clipped to 8 bits between, as Pillow does it."""
        old_height, old_width = image.shape[-2:]
        columns_first = resizes_columns_first(old_height, old_width, height, width)
        between = (height, old_width) if columns_first else (old_height, width)
        for size in (between, (height, width)):
            if image.shape[-2:] != size:
                image = self.resize(image, SizeDict(height=size[0], width=size[1]), resample)
        return image

    def _resize_shortest(self, image: torch.Tensor, side: int, resample: Any) -> torch.Tensor:
        height, width = get_resize_output_image_size(
            image,  # type: ignore[arg-type]
            size=side,
            default_to_square=False,
            input_data_format=ChannelDimension.FIRST,
        )
        return self._resize_to(image, height, width, resample)

    def _resize_padded(
        self, image: torch.Tensor, side: int, resample: Any, background_color: int | tuple[int, ...]
    ) -> torch.Tensor:
        """The image padded to a centred square, then resized: (channels, height, width) to (channels, side, side).

        Rows and columns are resized one after the other, as torchvision does it itself, so that no padded square is
        needed: a wide image needs no padding until its rows are short, a tall one only in strips of rows, and a narrow
        one none at all.
        """
        height, width = image.shape[-2:]
        long = max(height, width)
        if resample in _NARROW_FILTERS and is_narrow(height, width, side, resample, _NARROW):
            colors = _colors(image, background_color)
            return resize_narrow(image, side, resample, colors, partial(self._resize_to, resample=resample))
        strips = [image] if width == long else image.split(_STRIP_ROWS, dim=-2)
        rows = [
            self._resize_to(
                _on_canvas(strip, strip.shape[-2], long, background_color), strip.shape[-2], side, resample
            )
            for strip in strips
        ]
        square = _on_canvas(torch.cat(rows, dim=-2), long, side, background_color)
        return self._resize_to(square, side, side, resample)

    def _tiles(
        self,
        image: torch.Tensor,
        side: int,
        pinpoints: list[list[int]] | None,
        resample: Any,
        background_color: int | tuple[int, ...],
    ) -> torch.Tensor:
        """The image squeezed, then the tiles of the best grid, row by row: (crops, channels, side, side)."""
        height, width = image.shape[-2:]
        grid_height, grid_width = select_grid(height, width, pinpoints or [[2 * side, 2 * side]])
        fitted = self._resize_to(image, *fit_within(height, width, grid_height, grid_width), resample)
        grid = _on_canvas(fitted, grid_height, grid_width, background_color)
        tiles = grid.unfold(1, side, side).unfold(2, side, side)  # (channels, rows, columns, side, side)
        tiles = tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)
        return torch.cat([self._resize_to(image, side, side, resample)[None], tiles])


def _for_torch(array: np.ndarray) -> np.ndarray:
    """The array in the machine's byte order, and copied if torch cannot share its memory."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    is_shareable = array.flags.writeable and all(
        stride >= 0 and stride % array.itemsize == 0 for stride in array.strides
    )
    return array if is_shareable else array.copy()


def _colors(image: torch.Tensor, background_color: int | tuple[int, ...]) -> torch.Tensor:
    channels = len(image)
    colors = [background_color] * channels if isinstance(background_color, int) else list(background_color)
    if len(colors) != channels:
        raise ValueError(f"`background_color` has {len(colors)} values for an image of {channels} channels.")
    return image.new_tensor(colors)


def _on_canvas(image: torch.Tensor, height: int, width: int, background_color: int | tuple[int, ...]) -> torch.Tensor:
    """The image centred on a larger canvas, half a pixel up or left where it cannot be exactly in the middle."""
    image_height, image_width = image.shape[-2:]
    if (image_height, image_width) == (height, width):
        return image
    canvas = _colors(image, background_color)[:, None, None].repeat(1, height, width)
    top, left = (height - image_height) // 2, (width - image_width) // 2
    canvas[:, top : top + image_height, left : left + image_width] = image
    return canvas


__all__ = ["FastVLMImageProcessor"]
