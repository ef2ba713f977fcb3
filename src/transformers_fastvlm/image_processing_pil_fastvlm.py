# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Image processor on Pillow and NumPy: the original's preprocessing, equal on every pixel."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import torch
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import ChannelDimension, SizeDict

from .image_processing_common_fastvlm import (
    FastVLMImageProcessorKwargs,
    FastVLMImageProcessorMixin,
    fit_within,
    select_grid,
)
from .image_reading import loaded, to_rgb, upright
from .image_values import AnyImage, check_channels, is_channels_first, to_8bit_array
from .padded_resize import is_narrow, resize_narrow

# Rows padded at a time, so that the padded square of a tall image never exists as a whole.
_STRIP_ROWS = 128
# Narrower images are resized without their padding, which costs less from about here on.
_NARROW = 4
# Pillow resizes on one core, but other threads run meanwhile.
_PIXELS_WORTH_THREADS = 1_000_000
# Modes in which Pillow resizes 1, 3 or 4 channels independently of each other; it would weigh RGBA with its alpha.
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}


class FastVLMImageProcessorPil(FastVLMImageProcessorMixin, PilBackend):
    """FastVLM's image processor on Pillow. See [`FastVLMImageProcessorKwargs`] for its options."""

    valid_kwargs = FastVLMImageProcessorKwargs

    def process_image(  # type: ignore[override]
        self,
        image: AnyImage,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        **kwargs,
    ) -> PIL.Image.Image:
        """One image as an 8-bit Pillow image, of mode `RGB` with `do_convert_rgb`."""
        if isinstance(image, PIL.Image.Image):
            if do_convert_rgb:
                return to_rgb(image)
            image, input_data_format = np.asarray(upright(loaded(image))), ChannelDimension.LAST
        if isinstance(image, torch.Tensor):
            image = image.detach().cpu().resolve_conj().resolve_neg()
            image = (image.float() if image.is_floating_point() else image).numpy()
        if image.ndim == 2:
            image, input_data_format = image[None], ChannelDimension.FIRST
        if not is_channels_first(image.shape, input_data_format):
            image = np.moveaxis(image, -1, 0)
        image = to_8bit_array(image)  # (channels, height, width)
        if do_convert_rgb:
            image = image[:3] if len(image) > 2 else np.repeat(image[:1], 3, axis=0)
        check_channels(len(image))
        if len(image) == 1:
            return PIL.Image.fromarray(np.ascontiguousarray(image[0]))
        bands = [PIL.Image.fromarray(np.ascontiguousarray(channel)) for channel in image]
        return PIL.Image.merge(_MODES[len(image)], bands)

    def pad_to_square(self, image: PIL.Image.Image, background_color: int | tuple[int, ...] = 0) -> PIL.Image.Image:
        """The image in the middle of a square of its longer side."""
        side = max(image.size)
        return _on_canvas(image, side, side, background_color)

    def _channels(self, image: PIL.Image.Image) -> int:
        return len(image.getbands())

    def _tiles(
        self,
        image: PIL.Image.Image,
        side: int,
        pinpoints: list[list[int]] | None,
        resample: PIL.Image.Resampling,
        background_color: int | tuple[int, ...],
    ) -> list[PIL.Image.Image]:
        """The image squeezed to `side` × `side`, then the tiles of the best grid, row by row."""
        grid_height, grid_width = select_grid(image.height, image.width, pinpoints or [[2 * side, 2 * side]])
        height, width = fit_within(image.height, image.width, grid_height, grid_width)
        grid = _on_canvas(image.resize((width, height), resample), grid_height, grid_width, background_color)
        tiles = [
            grid.crop((left, top, left + side, top + side))
            for top in range(0, grid_height, side)
            for left in range(0, grid_width, side)
        ]
        return [image.resize((side, side), resample), *tiles]

    def _resize_padded(
        self,
        image: PIL.Image.Image,
        side: int,
        resample: PIL.Image.Resampling,
        background_color: int | tuple[int, ...],
    ) -> PIL.Image.Image:
        """The image padded to a centred square, then resized to `side` × `side`.

        Pillow resizes a square's rows first, rounds to 8 bits, then columns. Doing the two by hand gives the same
        pixels without the padded square: a wide image needs no padding until its rows are short, a tall one only in
        strips of rows, and a narrow one none at all. Strips of rows do not depend on each other, nor do strips of
        columns, so threads share them.
        """
        width, height = image.size
        long = max(width, height)
        if is_narrow(height, width, side, resample, _NARROW):
            return _resize_narrow(image, side, resample, background_color)
        threads = torch.get_num_threads() if width * height >= _PIXELS_WORTH_THREADS else 1
        per_strip = -(-height // threads) if width == long else _STRIP_ROWS
        per_column_strip = -(-side // threads)

        def resize_rows(top: int) -> PIL.Image.Image:
            strip = image.crop((0, top, width, min(top + per_strip, height)))
            strip = _on_canvas(strip, strip.height, long, background_color)
            return strip.resize((side, strip.height), resample)

        def resize_columns(left: int) -> PIL.Image.Image:
            strip = square.crop((left, 0, min(left + per_column_strip, side), long))
            return strip.resize((strip.width, side), resample)

        rows, resized = (PIL.Image.new(image.mode, (side, length)) for length in (height, side))
        with ThreadPoolExecutor(threads) as pool:
            tops, lefts = range(0, height, per_strip), range(0, side, per_column_strip)
            for top, strip in zip(tops, pool.map(resize_rows, tops)):
                rows.paste(strip, (0, top))
            square = _on_canvas(rows, long, side, background_color)
            for left, strip in zip(lefts, pool.map(resize_columns, lefts)):
                resized.paste(strip, (left, 0))
        return resized

    def _resize_shortest(self, image: PIL.Image.Image, side: int, resample: PIL.Image.Resampling) -> np.ndarray:
        return self.resize(_pixels(image), SizeDict(shortest_edge=side), resample=resample)

    def _to_pixels(  # type: ignore[override]
        self,
        crops: list[PIL.Image.Image | np.ndarray],
        *,
        do_center_crop: bool,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        **kwargs,
    ) -> list[np.ndarray]:
        finished = []
        for crop in crops:
            pixels = crop if isinstance(crop, np.ndarray) else _pixels(crop)
            if do_center_crop:
                pixels = self.center_crop(pixels, crop_size)
            if do_rescale:
                pixels = self.rescale(pixels, rescale_factor)
            if do_normalize:
                pixels = self.normalize(pixels, image_mean, image_std)
            finished.append(pixels)
        return finished


def _pixels(image: PIL.Image.Image) -> np.ndarray:
    """(channels, height, width)"""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _colors(image: PIL.Image.Image, background_color: int | tuple[int, ...]) -> tuple[int, ...]:
    bands = len(image.getbands())
    colors = (background_color,) * bands if isinstance(background_color, int) else tuple(background_color)
    if len(colors) != bands:
        raise ValueError(f"`background_color` has {len(colors)} values for an image of {bands} channels.")
    return colors


def _on_canvas(
    image: PIL.Image.Image, height: int, width: int, background_color: int | tuple[int, ...]
) -> PIL.Image.Image:
    """The image centred on a larger canvas, half a pixel up or left where it cannot be exactly in the middle."""
    if image.size == (width, height):
        return image
    colors = _colors(image, background_color)
    canvas = PIL.Image.new(image.mode, (width, height), colors if len(colors) > 1 else colors[0])
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def _resize_narrow(
    image: PIL.Image.Image, side: int, resample: PIL.Image.Resampling, background_color: int | tuple[int, ...]
) -> PIL.Image.Image:
    def resize(tensor: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """One axis; threads share strips along the other."""
        axis = 2 if tensor.shape[1] == height else 1
        threads = torch.get_num_threads() if tensor[0].numel() >= _PIXELS_WORTH_THREADS else 1
        strips = tensor.split(-(-tensor.shape[3 - axis] // threads), dim=3 - axis)

        def resize_strip(strip: torch.Tensor) -> torch.Tensor:
            size = (width, strip.shape[1]) if axis == 2 else (strip.shape[2], height)
            return _to_tensor(_to_image(strip, image.mode).resize(size, resample))

        with ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(resize_strip, strips)), dim=3 - axis)

    colors = torch.tensor(_colors(image, background_color), dtype=torch.uint8)
    return _to_image(resize_narrow(_to_tensor(image), side, resample, colors, resize), image.mode)


def _to_tensor(image: PIL.Image.Image) -> torch.Tensor:
    """The image's pixels, (channels, height, width)."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def _to_image(pixels: torch.Tensor, mode: str) -> PIL.Image.Image:
    size = (pixels.shape[2], pixels.shape[1])
    return PIL.Image.frombytes(mode, size, pixels.permute(1, 2, 0).contiguous().numpy())


__all__ = ["FastVLMImageProcessorPil"]
