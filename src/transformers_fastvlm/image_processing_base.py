# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What both image-processing backends share: their options, reading images, and the geometry of padding and tiles."""

import base64
import binascii
import io
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from transformers import image_utils
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import ChannelDimension, PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs, Unpack

_EXIF_ORIENTATION = 0x0112
_URL_TIMEOUT = 30.0  # seconds

ImageArray = np.ndarray | torch.Tensor
AnyImage = PIL.Image.Image | ImageArray


class FastVLMImageProcessorKwargs(ImagesKwargs, total=False):
    """Options of FastVLM's image processors, besides those that every image processor of transformers has.

    Args:
        do_tile (`bool`, defaults to `False`):
            Give each image as an overview followed by tiles, as the original does for `image_aspect_ratio="anyres"`.
        image_grid_pinpoints (list of `[width, height]`, *optional*):
            Sizes in pixels that an image may be resized to before it is cut into tiles, in the order of the original's
            configuration, width first. Each side must be a multiple of the resolution R. Without it, one grid of 2×2
            tiles, `[[2 * R, 2 * R]]`.
        background_color (`int` or three of them, defaults to 0, black):
            What images are padded with, in 0..255.
    """

    do_tile: bool | None
    image_grid_pinpoints: list | tuple | None
    background_color: int | list | tuple | None


def square_side(size: int | Sequence[int] | dict[str, int] | SizeDict, name: str = "size") -> int:
    """The side in pixels that a `size` or `crop_size` stands for.

    Raises:
        ValueError: if it is not that of a square.
    """
    if isinstance(size, (list, tuple)):
        sides, is_known = list(size), len(size) == 2
    elif isinstance(size, (dict, SizeDict)):
        sides, is_known = list(dict(size).values()), set(dict(size)) in ({"shortest_edge"}, {"height", "width"})
    else:
        sides, is_known = [size], True
    if not is_known or any(type(side) is not int or side < 1 or side != sides[0] for side in sides):
        given = dict(size) if isinstance(size, SizeDict) else size
        raise ValueError(
            f"`{name}` must be a number of pixels R, {{'shortest_edge': R}} or {{'height': R, 'width': R}}: "
            f"FastVLM's images are squares. Got {given!r}."
        )
    return sides[0]


def select_grid(height: int, width: int, pinpoints: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The (height, width) among `pinpoints`, given as (width, height), that keeps most of an image's pixels.

    An image is scaled to fit without changing its aspect ratio; enlarging adds no pixels. Among equals the one with
    the smallest unused area wins, then the first.
    """

    def merit(pinpoint: Sequence[int]) -> tuple[int, int]:
        grid_width, grid_height = pinpoint
        scale = min(grid_width / width, grid_height / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - grid_width * grid_height

    grid_width, grid_height = max(pinpoints, key=merit)
    return grid_height, grid_width


def fit_within(height: int, width: int, target_height: int, target_width: int) -> tuple[int, int]:
    """(height, width) of an image scaled to touch the target's border without changing its aspect ratio."""
    if target_width / width < target_height / height:
        return min(math.ceil(height * (target_width / width)), target_height), target_width
    return target_height, min(math.ceil(width * (target_height / height)), target_width)


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


def read_image(source: str | os.PathLike | bytes) -> PIL.Image.Image:
    """Open an image file, given by path, `http(s)` URL, `data:` URI, base64 text or its bytes.

    Raises:
        OSError: if there is no such file, or it is truncated or no image; the message names it.
    """
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    name = name if len(name) <= 200 else f"{name[:60]}…"
    if isinstance(source, bytes):
        file: Any = io.BytesIO(source)
    elif isinstance(source, str) and source.startswith(("http://", "https://")):
        response = image_utils.httpx.get(source, timeout=_URL_TIMEOUT, follow_redirects=True)
        response.raise_for_status()
        file = io.BytesIO(response.content)
    elif os.path.isfile(source):
        file = source
    else:
        try:
            text = os.fspath(source).partition(",")[2] if str(source).startswith("data:") else os.fspath(source)
            file = io.BytesIO(base64.b64decode("".join(text.split()), validate=True))
        except (binascii.Error, ValueError) as error:
            raise FileNotFoundError(f"There is no image file {name!r}, and it is neither a URL nor base64.") from error
    try:
        with PIL.Image.open(file) as image:
            image.load()
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
        raise OSError(f"The image {name!r} cannot be read: {error}") from error
    return image


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image turned as its EXIF orientation says; as it is where it has none."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except (SyntaxError, ValueError):  # damaged metadata does not make a picture unreadable
        return image
    return image if orientation == 1 else PIL.ImageOps.exif_transpose(image)


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """The upright image in mode `RGB`. Alpha is dropped, as in the original; 16 bits and floats are scaled to 8.

    Raises:
        OSError: if the file behind the image is truncated.
        ValueError: if its pixels are NaN or out of range.
    """
    name = getattr(image, "filename", "") or "given"
    try:
        image = upright(image)
        if image.mode == "F" or image.mode.startswith("I"):
            pixels = np.asarray(image)
            if image.mode == "I" and 255 < pixels.max() <= 65535:
                pixels = pixels.astype(np.uint16)
            image = PIL.Image.fromarray(to_uint8(pixels))
        elif image.mode == "La":
            image = image.convert("LA")
        return image.convert("RGB")
    except OSError as error:
        raise OSError(f"The image {name!r} cannot be read: {error}") from error


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """The array with its values in 0..255, see `pixel_factor`."""
    if pixels.dtype == np.uint8:
        return pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    factor = pixel_factor(pixels.dtype.name, float(pixels.min()), float(pixels.max()))
    return np.rint(pixels * np.float32(factor)).astype(np.uint8)


def is_unit_range(image: AnyImage) -> bool:
    """Whether an image is an array of floating-point numbers in 0..1."""
    if isinstance(image, PIL.Image.Image):
        return False
    is_float = image.is_floating_point() if isinstance(image, torch.Tensor) else image.dtype.kind == "f"
    return bool(is_float) and float(image.max()) <= 1


def flatten_images(images: Any) -> list[AnyImage]:
    """One list of all images in a single image, a batch of them as an array, or lists nested to any depth.

    Raises:
        ValueError: if something in it is no image.
    """
    if isinstance(images, (list, tuple)):
        return [image for part in images for image in flatten_images(part)]
    if isinstance(images, PIL.Image.Image):
        return [images]
    if not isinstance(images, (np.ndarray, torch.Tensor)):
        raise ValueError(
            f"A {type(images).__name__} is no image: expected a PIL image, an array, a tensor, a path, a URL, base64 "
            "text or bytes."
        )
    if images.ndim not in (2, 3, 4) or 0 in images.shape:
        raise ValueError(f"An array of shape {tuple(images.shape)} is no image and no batch of images.")
    return list(images) if images.ndim == 4 else [images]


class FastVLMImageProcessorMixin:
    """Options and checks of both backends. Goes before the backend among the bases.

    Each image is padded to a centred square, resized to R×R with antialiasing on 8-bit values, and divided by 255:
    the original's preprocessing. `size` selects R and `crop_size` follows it, unless it is given too.
    """

    valid_kwargs: type
    model_input_names = ["pixel_values"]

    resample = PILImageResampling.BICUBIC
    image_mean = [0.0, 0.0, 0.0]
    image_std = [1.0, 1.0, 1.0]
    size = {"shortest_edge": 1024}
    default_to_square = False
    crop_size = {"height": 1024, "width": 1024}
    do_resize = True
    do_pad = True
    do_center_crop = True
    do_rescale = True
    do_normalize = False
    do_convert_rgb = True
    do_tile = False
    image_grid_pinpoints = None
    background_color = 0

    def __init__(self, **kwargs: Unpack[FastVLMImageProcessorKwargs]):
        super().__init__(**_with_crop_size(dict(kwargs)))
        _check_geometry(**self._options(None))

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs):
        if kwargs.get("size") is not None and kwargs.get("crop_size") is None:
            kwargs["crop_size"] = square_side(kwargs["size"])
        return super().from_dict(image_processor_dict, **kwargs)  # type: ignore[misc]

    def preprocess(self, images, *args, **kwargs: Unpack[FastVLMImageProcessorKwargs]) -> BatchFeature:
        """
        Turn images into the model's input.

        Args:
            images: PIL images, arrays or tensors (grey, grey with alpha, RGB or RGBA; channels first or last; 8-bit,
                16-bit, or floating-point in 0..1 or 0..255), paths, URLs, base64 texts or bytes; one, a list, or
                nested lists. PIL images and files are turned upright as their EXIF orientation says.
            **kwargs: options for this call, see [`FastVLMImageProcessorKwargs`]. `size=R` selects the resolution.
                With `do_rescale=False`, floating-point images in 0..1 stay in 0..1.

        Returns:
            `BatchFeature`: `pixel_values`, float32 of shape `(crops of all images, 3, R, R)` in 0..1. Every image is
            one crop; with `do_tile` it is its overview followed by its tiles row by row, and `num_crops` lists how
            many crops each image has.

        Raises:
            ValueError: if there is no image, an image's values are not finite or out of range, or the options
                contradict each other.
            OSError: if a file cannot be read; the message names it.
        """
        return super().preprocess(images, *args, **_with_crop_size(dict(kwargs)))  # type: ignore[misc]

    def fetch_images(self, image_url_or_urls):
        """Read what stands for images: paths, URLs, base64 texts and bytes, in lists nested to any depth."""
        if isinstance(image_url_or_urls, (list, tuple)):
            return [self.fetch_images(image) for image in image_url_or_urls]
        if isinstance(image_url_or_urls, (str, os.PathLike, bytes)):
            return read_image(image_url_or_urls)
        return image_url_or_urls

    def get_number_of_image_patches(self, height: int, width: int, images_kwargs: dict | None = None) -> int:
        """How many crops an image of `height` × `width` pixels gives: 1, or with tiling the overview and its tiles."""
        options = self._standardize_kwargs(**self._options(images_kwargs))
        if not options["do_tile"]:
            return 1
        side = square_side(options["size"])
        grid_height, grid_width = select_grid(height, width, options["image_grid_pinpoints"] or [[2 * side, 2 * side]])
        return 1 + (grid_height // side) * (grid_width // side)

    def get_resolution(self, images_kwargs: dict | None = None) -> int:
        """Side in pixels of the crops that these options give."""
        options = self._standardize_kwargs(**self._options(images_kwargs))
        return square_side(options["crop_size"] if options["do_center_crop"] else options["size"])

    def _options(self, images_kwargs: dict | None) -> dict[str, Any]:
        own = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__}
        given = {name: value for name, value in (images_kwargs or {}).items() if name in own}
        return own | _with_crop_size(given)

    def _standardize_kwargs(self, **kwargs) -> dict[str, Any]:
        for name in ("size", "crop_size"):
            if kwargs.get(name) is not None:
                square_side(kwargs[name], name)
        if kwargs.get("pad_size") is not None:
            raise ValueError(
                "`pad_size` has no meaning here: images are padded to a square, whose side is the longer one."
            )
        return super()._standardize_kwargs(**kwargs)  # type: ignore[misc]

    def _validate_preprocess_kwargs(self, **kwargs) -> None:
        _check_geometry(**kwargs)
        super()._validate_preprocess_kwargs(**kwargs)  # type: ignore[misc]

    def _prepare_images_structure(self, images, expected_ndims: int = 3) -> list[AnyImage]:
        flat = flatten_images(self.fetch_images(images))
        if not flat:
            raise ValueError("There is no image to process: the list of images is empty.")
        return flat

    def _preprocess_image_like_inputs(self, images, *args, **kwargs) -> BatchFeature:
        images = self._prepare_images_structure(images)
        if not kwargs["do_rescale"] and any(map(is_unit_range, images)):
            if not all(map(is_unit_range, images)):
                raise ValueError("With `do_rescale=False`, either all images lie in 0..1 or none.")
            # Inside, all images are 8-bit; this brings them back to the range they came in.
            kwargs |= {"do_rescale": True, "rescale_factor": 1 / 255}
        return super()._preprocess_image_like_inputs(images, *args, **kwargs)  # type: ignore[misc]


def _with_crop_size(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The options, with the `crop_size` that goes with their `size` if they have only that."""
    if kwargs.get("size") is None or kwargs.get("crop_size") is not None:
        return kwargs
    side = square_side(kwargs["size"])
    return kwargs | {"crop_size": {"height": side, "width": side}}


def _check_geometry(
    *,
    size: SizeDict,
    crop_size: SizeDict,
    do_resize: bool,
    do_center_crop: bool,
    do_tile: bool | None = None,
    image_grid_pinpoints: Sequence[Sequence[int]] | None = None,
    background_color: int | Sequence[int] | None = None,
    **kwargs,
) -> None:
    """Raise a `ValueError` if options contradict each other."""
    colors = background_color if isinstance(background_color, (list, tuple)) else [background_color or 0] * 3
    if len(colors) != 3 or not all(isinstance(color, int) and 0 <= color <= 255 for color in colors):
        raise ValueError(f"`background_color` must be one or three integers in 0..255, got {background_color!r}.")
    side, crop = square_side(size), square_side(crop_size, "crop_size")
    if do_resize and do_center_crop and crop > side:
        raise ValueError(f"`crop_size` {crop} is larger than `size` {side}: nothing is left to crop.")
    if not do_tile:
        return
    if not do_resize or (do_center_crop and crop != side):
        raise ValueError("`do_tile` needs `do_resize` and a `crop_size` equal to `size`.")
    for pinpoint in image_grid_pinpoints if image_grid_pinpoints is not None else [[2 * side, 2 * side]]:
        if len(pinpoint) != 2 or any(
            not isinstance(length, int) or length < 1 or length % side for length in pinpoint
        ):
            raise ValueError(
                f"`image_grid_pinpoints` must be [width, height] pairs of multiples of the resolution {side}, got "
                f"{pinpoint!r}."
            )
    if image_grid_pinpoints is not None and len(image_grid_pinpoints) == 0:
        raise ValueError("`image_grid_pinpoints` is empty: leave it out for one grid of 2×2 tiles.")
