# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What images as arrays and tensors hold: their kind, where their channels are, and the range of their values."""

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import PIL.Image
import torch
from transformers.image_utils import ChannelDimension

ImageArray = np.ndarray | torch.Tensor
AnyImage = PIL.Image.Image | ImageArray


def is_floating(image: AnyImage) -> TypeGuard[ImageArray]:
    """Whether an image is an array of floating-point numbers."""
    if isinstance(image, torch.Tensor):
        return image.is_floating_point()
    return isinstance(image, np.ndarray) and image.dtype.kind == "f"


def check_array(image: ImageArray) -> None:
    """Raise a `ValueError` if an array cannot be an image or a batch of them, whatever its values."""
    if isinstance(image, torch.Tensor):
        kinds = {
            "nested": image.is_nested,
            "sparse": image.layout != torch.strided,
            "quantized": image.is_quantized,
            "meta": image.is_meta,
            "complex": image.is_complex(),
        }
        kind = next((name for name, holds in kinds.items() if holds), None)
        if kind is not None:
            raise ValueError(
                f"A {kind} tensor is no image: expected a dense one of integers, floating-point numbers or booleans."
            )
    elif image.dtype.kind not in "biuf":
        raise ValueError(
            f"An array of dtype {image.dtype} is no image: expected integers, floating-point numbers or booleans."
        )
    if image.ndim not in (2, 3, 4) or 0 in image.shape:
        raise ValueError(f"An array of shape {tuple(image.shape)} is no image and no batch of images.")


def check_channels(count: int) -> None:
    """Raise a `ValueError` if an image of so many channels cannot be used as it is."""
    if count not in (1, 3, 4):
        raise ValueError(f"An image of {count} channels can only be used with `do_convert_rgb=True`.")


def check_statistics(channels: int, **statistics: float | Sequence[float]) -> None:
    """Raise a `ValueError` if `image_mean` or `image_std` has not a value for each of an image's channels."""
    for name, values in statistics.items():
        if isinstance(values, (list, tuple)) and len(values) != channels:
            raise ValueError(f"`{name}` has {len(values)} values for an image of {channels} channels.")


def flatten_images(images: Any) -> list[AnyImage]:
    """One list of all images in a single image, a batch of them as an array, or lists nested to any depth.

    Raises:
        ValueError: if something in it is no image.
    """
    return [image for whole in flatten_batches(images) for image in split_batch(whole)]


def flatten_batches(images: Any) -> list[AnyImage]:
    """The same, with batches given as an array left in one piece.

    Raises:
        ValueError: if something in it is no image.
    """
    if isinstance(images, (list, tuple)):
        return [whole for part in images for whole in flatten_batches(part)]
    if isinstance(images, PIL.Image.Image):
        if 0 in images.size:
            raise ValueError(f"An image of {images.width}×{images.height} pixels has none.")
        return [images]
    if not isinstance(images, (np.ndarray, torch.Tensor)):
        raise ValueError(
            f"A {type(images).__name__} is no image: expected a PIL image, an array, a tensor, a path, a URL, base64 "
            "text or bytes."
        )
    check_array(images)
    return [images]


def split_batch(whole: AnyImage) -> list[AnyImage]:
    """The images of an array of four dimensions; any other image alone."""
    return [whole] if isinstance(whole, PIL.Image.Image) or whole.ndim < 4 else list(whole)


def pixel_factor(dtype: str, lowest: float, highest: float) -> float:
    """What the values of an image have to be multiplied with to lie in 0..255.

    Booleans are 0 or 1 and `uint16` spans 0..65535. Floating-point values are taken for 0..1 if they all lie there,
    and for 0..255 otherwise; other integers must lie in 0..255.

    Args:
        dtype (`str`): name of the data type, as NumPy and torch call it.
        lowest, highest (`float`): smallest and largest value of the image.

    Raises:
        ValueError: if the values are none of an image's, or not finite.
    """
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ValueError("The image has NaN or infinite pixels.")
    if dtype == "bool":
        return 255.0
    if dtype == "uint16":
        return 255 / 65535
    if lowest < 0 or highest > 255:
        raise ValueError(
            f"The image's {dtype} pixels lie in {lowest:g}..{highest:g}, but must lie in 0..255, or 0..1 if they are "
            "floating-point numbers. Images that are normalized already cannot be given."
        )
    return 255.0 if "float" in dtype and highest <= 1 else 1.0


def to_8bit_array(pixels: np.ndarray, factor: float | None = None) -> np.ndarray:
    """The array with its values in 0..255, multiplied with `factor` or what `pixel_factor` says."""
    if pixels.dtype == np.uint8:
        return pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if factor is None:
        factor = pixel_factor(_dtype_name(pixels), float(pixels.min()), float(pixels.max()))
    return np.rint(pixels * np.float32(factor)).astype(np.uint8)


def to_8bit_tensor(pixels: torch.Tensor, factor: float | None = None) -> torch.Tensor:
    """The tensor, without its gradient, with its values in 0..255 likewise."""
    pixels = pixels.detach()
    if pixels.dtype == torch.uint8:
        return pixels
    dtype = _dtype_name(pixels)
    # uint16 has few operations in torch; float32 holds every value an image can have.
    pixels = pixels.float()
    if factor is None:
        factor = pixel_factor(dtype, pixels.min().item(), pixels.max().item())
    return pixels.mul(factor).round().to(torch.uint8)


def to_8bit(image: ImageArray, factor: float | None = None) -> ImageArray:
    """The same for either."""
    return to_8bit_tensor(image, factor) if isinstance(image, torch.Tensor) else to_8bit_array(image, factor)


def to_one_range(images: Sequence[AnyImage]) -> tuple[list[AnyImage], list[bool]]:
    """
    The images of one call, batches as arrays split up, with floating-point ones as 8 bits by one rule.

    If all floating-point values of the call lie in 0..1, that is their range, otherwise 0..255. An array is one thing:
    a dark image in a bright batch is dark. An array of its own in 0..1, beside brighter ones, is dark too if its
    values are whole numbers, as they are where 8 bits were made floating-point.

    Args:
        images: as [`flatten_batches`] gives them.

    Returns:
        `tuple[list, list[bool]]`: the images, and whether each was in 0..1.

    Raises:
        ValueError: if values are not finite or out of range, or it cannot be told which range an image is in.
    """
    floating = [whole for whole in images if is_floating(whole)]
    factors = [pixel_factor(_dtype_name(whole), *_extremes(whole)) for whole in floating]
    factor = min(factors, default=1.0)
    for image, own in zip(floating, factors):
        if own != factor and not _is_whole(image):
            raise ValueError(
                "Among the floating-point images of one call, some lie in 0..1 and others in 0..255, so that their "
                "range is not known: give them in one range, or as uint8."
            )
    flat: list[AnyImage] = []
    in_unit_range: list[bool] = []
    for whole in images:
        parts = split_batch(to_8bit(whole, factor) if is_floating(whole) else whole)
        flat += parts
        in_unit_range += [is_floating(whole) and factor != 1] * len(parts)
    return flat, in_unit_range


def _dtype_name(image: ImageArray) -> str:
    """The data type's name in either library, whatever the order of its bytes."""
    return str(image.dtype).removeprefix("torch.") if isinstance(image, torch.Tensor) else image.dtype.name


def _extremes(image: ImageArray) -> tuple[float, float]:
    if isinstance(image, torch.Tensor):
        lowest, highest = torch.aminmax(image.detach().float())
        return lowest.item(), highest.item()
    return float(image.min()), float(image.max())


def _is_whole(image: ImageArray) -> bool:
    if isinstance(image, torch.Tensor):
        values = image.detach().float()
        return bool((values == values.round()).all())
    return bool((image == np.rint(image)).all())


def is_channels_first(shape: Sequence[int], input_data_format: str | ChannelDimension | None) -> bool:
    """Whether a three-dimensional array is (channels, height, width) rather than (height, width, channels).

    Raises:
        ValueError: if it has no axis of 1 to 4 channels, or two that may be it.
    """
    if input_data_format is not None:
        return ChannelDimension(input_data_format) == ChannelDimension.FIRST
    # Three or four channels are likelier than one or two: a 1×1 RGB image is no grey line of 3 pixels.
    for counts in ((3, 4), (1, 2)):
        first, last = shape[0] in counts, shape[-1] in counts
        if first and last:
            raise ValueError(
                f"An image array of shape {tuple(shape)} may have its channels first or last: pass "
                "`input_data_format='channels_first'` or `'channels_last'`."
            )
        if first or last:
            return first
    raise ValueError(
        f"An image array of shape {tuple(shape)} has no axis of channels: expected (channels, height, width) or "
        "(height, width, channels) with 1 to 4 channels."
    )
