# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What both image-processing backends share: their options, reading images, and the geometry of padding and tiles."""

import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import PIL.Image
import torch  # noqa: F401  # where type hints of inherited options are looked up
from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassError
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import ChannelDimension, PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs, Unpack

from .image_reading import read_image, wide_to_arrays
from .image_values import AnyImage, check_statistics, flatten_batches, flatten_images, is_channels_first, to_one_range

# Pixels that the crops of one image may have together, 4 bytes a channel, where `max_padded_pixels` allows no more.
_MAX_CROP_PIXELS = 2**26
_CROPS_SHARE = 64
_CROP_LIMIT = "the limit for one image that `max_padded_pixels` sets"
# What transformers writes into a processor's files beside its options.
_BOOKKEEPING = {"auto_map", "feature_extractor_type", "image_processor_type", "processor_class", "use_fast", "backend"}
_FLOATS = ("image_mean", "image_std", "rescale_factor")
_MISSPELT_LETTERS = 2


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
        max_padded_pixels (`int`, defaults to 2³², a side of 65536):
            How many pixels the square that an image is padded to may have; an image that needs more is an error. The
            crops of one image, which `size` and `image_grid_pinpoints` set, may have 2²⁶ pixels together, or a 64th of
            this where that is more.
    """

    do_tile: bool | None
    image_grid_pinpoints: list | tuple | None
    background_color: int | list | tuple | None
    max_padded_pixels: int | None


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


class FastVLMImageProcessorMixin:
    """Options and checks of both backends. Goes before the backend among the bases.

    Each image is padded to a centred square, resized to R×R with antialiasing on 8-bit values, and divided by 255:
    the original's preprocessing. `size` selects R and `crop_size` follows it, unless it is given too.
    """

    valid_kwargs: type
    filters = frozenset(PILImageResampling)
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
    max_padded_pixels = 2**32

    def __init__(self, **kwargs: Unpack[FastVLMImageProcessorKwargs]):
        options = _with_crop_size(self.checked(kwargs))
        if options.get("crop_size") is not None and options.get("size") is None:
            crop = square_side(options["crop_size"], "crop_size")
            if crop != square_side(self.size):
                raise ValueError(f"`crop_size` {crop} is given without `size`, which images are resized to before.")
        super().__init__(**options)
        self._check(self._options(None))

    @classmethod
    def get_image_processor_dict(cls, pretrained_model_name_or_path, **kwargs):
        options, kwargs = super().get_image_processor_dict(pretrained_model_name_or_path, **kwargs)  # type: ignore[misc]
        cls.check_settings(options, f"The image processor's settings in {pretrained_model_name_or_path}")
        return options, kwargs

    @classmethod
    def check_settings(cls, options: Any, where: str) -> None:
        """Raise a `ValueError` that starts with `where` if options read from a file cannot be those of a processor."""
        try:
            if not isinstance(options, dict):
                raise ValueError(f"expected an object with options, got {options!r}.")
            cls(**options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs):
        refuse_misspelt(kwargs, cls.valid_kwargs.__annotations__)
        if kwargs.get("size") is not None and kwargs.get("crop_size") is None:
            kwargs["crop_size"] = square_side(kwargs["size"])
        return super().from_dict(image_processor_dict, **kwargs)  # type: ignore[misc]

    def preprocess(self, images, *args, **kwargs: Unpack[FastVLMImageProcessorKwargs]) -> BatchFeature:
        """
        Turn images into the model's input.

        Args:
            images: PIL images, arrays or tensors (grey, grey with alpha, RGB or RGBA; channels first or last; 8-bit,
                16-bit, or floating-point in 0..1 or 0..255), paths, URLs, base64 texts or bytes; one, a list, or
                nested lists. PIL images and files are turned upright as their EXIF orientation says. The
                floating-point images of a call are in 0..1 if all their values are, otherwise in 0..255.
            **kwargs: options for this call, see [`FastVLMImageProcessorKwargs`]; `None` is the processor's own.
                `size=R` selects the resolution. With `do_rescale=False`, floating-point images in 0..1 stay in 0..1.

        Returns:
            `BatchFeature`: `pixel_values`, float32 of shape `(crops of all images, 3, R, R)` in 0..1. Every image is
            one crop; with `do_tile` it is its overview followed by its tiles row by row, and `num_crops` lists how
            many crops each image has.

        Raises:
            TypeError: if there is no such option.
            ValueError: if there is no image, an image is none or has more pixels than `max_padded_pixels` allows, its
                values are not finite, out of range or of unknown range, or options have not their type or contradict
                each other.
            OSError: if a file cannot be read or downloaded, see [`read_image`]; the message names it.
        """
        refuse_unknown(kwargs, {*self.valid_kwargs.__annotations__, "image_like_kwargs"}, type(self).__name__)
        return super().preprocess(images, *args, **_with_crop_size(self.checked(kwargs)))  # type: ignore[misc]

    def fetch_images(self, image_url_or_urls):
        """Read what stands for images: paths, URLs, base64 texts and bytes, in lists nested to any depth."""
        if isinstance(image_url_or_urls, (list, tuple)):
            return [self.fetch_images(image) for image in image_url_or_urls]
        if isinstance(image_url_or_urls, (str, os.PathLike, bytes, bytearray, memoryview)):
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

    @classmethod
    def checked(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are given, whole numbers as the floating-point ones that some have to be."""
        known = cls.valid_kwargs.__annotations__
        refuse_misspelt(options, known)
        # `None` is an option's value only where it is its default.
        options = {
            name: _with_floats(value) if name in _FLOATS else value
            for name, value in options.items()
            if value is not None or getattr(cls, name, None) is None
        }
        for name in ("size", "crop_size"):
            if options.get(name) is not None:
                square_side(options[name], name)
        try:
            validate_typed_dict(cls.valid_kwargs, {name: value for name, value in options.items() if name in known})
        except StrictDataclassError:
            for name in options.keys() & known.keys():
                _check_type(cls.valid_kwargs, name, options[name])
        return options

    def _options(self, images_kwargs: dict | None) -> dict[str, Any]:
        own = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__}
        given = {name: value for name, value in (images_kwargs or {}).items() if name in own}
        return own | _with_crop_size(self.checked(given))

    def _standardize_kwargs(self, **kwargs) -> dict[str, Any]:
        if kwargs.get("pad_size") is not None:
            raise ValueError(
                "`pad_size` has no meaning here: images are padded to a square, whose side is the longer one."
            )
        return super()._standardize_kwargs(**kwargs)  # type: ignore[misc]

    def _check(self, options: Mapping[str, Any]) -> None:
        _check_options(**options)
        resample = options["resample"]
        if isinstance(resample, int) and resample not in self.filters:
            known = ", ".join(f"{int(each)} ({each.name.lower()})" for each in sorted(self.filters))
            raise ValueError(f"`resample` {resample!r} is none that {type(self).__name__} has: {known}.")

    def _validate_preprocess_kwargs(self, **kwargs) -> None:
        self._check(kwargs)
        super()._validate_preprocess_kwargs(**kwargs)  # type: ignore[misc]

    def _prepare_images_structure(self, images, expected_ndims: int = 3) -> list[AnyImage]:
        flat = flatten_images(self.fetch_images(images))
        if not flat:
            raise ValueError("There is no image to process: the list of images is empty.")
        return flat

    def _preprocess_image_like_inputs(self, images, *args, **kwargs) -> BatchFeature:
        images = flatten_batches(self.fetch_images(images))
        for index, image in enumerate(images):
            _check_pixels(index, *_height_and_width(image, kwargs.get("input_data_format")), **kwargs)
        images, in_unit_range = to_one_range(wide_to_arrays(images))
        if not kwargs["do_rescale"] and any(in_unit_range):
            if not all(in_unit_range):
                raise ValueError("With `do_rescale=False`, either all images lie in 0..1 or none.")
            # Inside, all images are 8-bit; this brings them back to the range they came in.
            kwargs |= {"do_rescale": True, "rescale_factor": 1 / 255}
        return super()._preprocess_image_like_inputs(images, *args, **kwargs)  # type: ignore[misc]

    def _preprocess(
        self,
        images: list,
        *,
        do_resize: bool,
        size: SizeDict,
        resample: Any,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        do_pad: bool | None,
        return_tensors: str | None,
        do_tile: bool | None = None,
        image_grid_pinpoints: list[list[int]] | None = None,
        background_color: int | tuple[int, ...] = 0,
        **kwargs,
    ) -> BatchFeature:
        """What the backend's `process_image` made of the images to crops, and those to pixels."""
        side = square_side(size)
        pixel_values: list[Any] = []
        num_crops: list[int] = []
        for image in images:
            if do_normalize:
                check_statistics(self._channels(image), image_mean=image_mean, image_std=image_std)
            if do_tile:
                crops = self._tiles(image, side, image_grid_pinpoints, resample, background_color)
            elif do_pad and do_resize:
                crops = [self._resize_padded(image, side, resample, background_color)]
            else:
                padded = self.pad_to_square(image, background_color) if do_pad else image
                crops = [self._resize_shortest(padded, side, resample) if do_resize else padded]
            num_crops.append(len(crops))
            pixel_values += self._to_pixels(
                crops, do_normalize=do_normalize, image_mean=image_mean, image_std=image_std, **kwargs
            )
        data: dict[str, Any] = {"pixel_values": pixel_values} | ({"num_crops": num_crops} if do_tile else {})
        return BatchFeature(data=data, tensor_type=return_tensors)

    def _channels(self, image: Any) -> int:
        """How many channels an image has."""
        raise NotImplementedError

    def pad_to_square(self, image: Any, background_color: int | tuple[int, ...] = 0) -> Any:
        """The image in the middle of a square of its longer side."""
        raise NotImplementedError

    def _tiles(self, image: Any, side: int, pinpoints: Any, resample: Any, background_color: Any) -> Any:
        """An image's overview and tiles."""
        raise NotImplementedError

    def _resize_padded(self, image: Any, side: int, resample: Any, background_color: Any) -> Any:
        """The image padded to a centred square, then resized."""
        raise NotImplementedError

    def _resize_shortest(self, image: Any, side: int, resample: Any) -> Any:
        """The image resized so that its shorter side has `side` pixels."""
        raise NotImplementedError

    def _to_pixels(self, crops: Any, **options: Any) -> list:
        """Crops cut to their middle, rescaled and normalized, each `(channels, height, width)`."""
        raise NotImplementedError


def refuse_misspelt(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise a `TypeError` if one of `names` is not known, but nearly.

    For places that take others' options, too.
    """
    known = set(known)
    for name in sorted(set(names) - known - _BOOKKEEPING):
        differing, closest = min((_differing_letters(name, other), other) for other in known)
        if differing <= _MISSPELT_LETTERS:
            raise TypeError(f"There is no option `{name}`; did you mean `{closest}`?")


def _differing_letters(one: str, other: str) -> int:
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return max(len(one), len(other)) - sum(block.size for block in blocks)


def refuse_unknown(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise a `TypeError` if one of `names` is not known."""
    if unknown := sorted(set(names) - set(known)):
        refuse_misspelt(unknown, known)
        raise TypeError(f"{where} has no option `{unknown[0]}`.")


def _check_type(valid_kwargs: type, name: str, value: Any) -> None:
    try:
        validate_typed_dict(valid_kwargs, {name: value})
    except StrictDataclassError as error:
        annotation = valid_kwargs.__annotations__[name]
        expected = str(getattr(annotation, "__origin__", annotation)).removesuffix(" | None")
        raise ValueError(f"`{name}` must be {expected}, got {value!r}.") from error


def _with_floats(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_floats, value))
    return float(value) if type(value) is int else value


def _with_crop_size(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The options, with the `crop_size` that goes with their `size` if they have only that."""
    if kwargs.get("size") is None or kwargs.get("crop_size") is not None:
        return kwargs
    side = square_side(kwargs["size"])
    return kwargs | {"crop_size": {"height": side, "width": side}}


def _check_options(
    *,
    size: SizeDict,
    crop_size: SizeDict,
    do_resize: bool,
    do_center_crop: bool,
    max_padded_pixels: int,
    do_tile: bool | None = None,
    image_grid_pinpoints: Sequence[Sequence[int]] | None = None,
    background_color: int | Sequence[int] | None = None,
    **kwargs,
) -> None:
    """Raise a `ValueError` if options have values that they cannot have, or contradict each other."""
    colors = background_color if isinstance(background_color, (list, tuple)) else [background_color or 0] * 3
    if len(colors) != 3 or not all(type(color) is int and 0 <= color <= 255 for color in colors):
        raise ValueError(f"`background_color` must be one or three integers in 0..255, got {background_color!r}.")
    if max_padded_pixels < 1:
        raise ValueError(f"`max_padded_pixels` must be a number of pixels, at least 1, got {max_padded_pixels}.")
    _check_values(**kwargs)
    side, crop = square_side(size), square_side(crop_size, "crop_size")
    most = _most_crop_pixels(max_padded_pixels)
    for name, length in (("size", side), ("crop_size", crop)):
        if length**2 > most:
            raise ValueError(f"`{name}` {length} gives {length**2:,} pixels, more than {most:,}, {_CROP_LIMIT}.")
    if do_resize and do_center_crop and crop > side:
        raise ValueError(f"`crop_size` {crop} is larger than `size` {side}: nothing is left to crop.")
    if not do_tile:
        return
    if not do_resize or (do_center_crop and crop != side):
        raise ValueError("`do_tile` needs `do_resize` and a `crop_size` equal to `size`.")
    for pinpoint in image_grid_pinpoints if image_grid_pinpoints is not None else [[2 * side, 2 * side]]:
        is_pair = isinstance(pinpoint, (list, tuple)) and len(pinpoint) == 2
        if not is_pair or any(type(length) is not int or length < 1 or length % side for length in pinpoint):
            raise ValueError(
                f"`image_grid_pinpoints` must be [width, height] pairs of multiples of the resolution {side}, got "
                f"{pinpoint!r}."
            )
        pixels = math.prod(pinpoint) + side**2  # the overview
        if pixels > most:
            raise ValueError(
                f"{list(pinpoint)} of `image_grid_pinpoints` gives crops of {pixels:,} pixels, more than "
                f"{most:,}, {_CROP_LIMIT}."
            )
    if image_grid_pinpoints is not None and len(image_grid_pinpoints) == 0:
        raise ValueError("`image_grid_pinpoints` is empty: leave it out for one grid of 2×2 tiles.")


def _check_values(
    *,
    resample: Any = None,
    rescale_factor: float | None = None,
    do_normalize: bool | None = None,
    do_convert_rgb: bool | None = None,
    image_mean: float | Sequence[float] | None = None,
    image_std: float | Sequence[float] | None = None,
    data_format: str | ChannelDimension | None = None,
    **kwargs,
) -> None:
    """The same for those that every image processor of transformers has."""
    is_number = isinstance(resample, int)
    if isinstance(resample, str) or (
        is_number and (type(resample) is bool or resample not in set(PILImageResampling))
    ):
        raise ValueError(f"`resample` must be one of PIL's filters, such as 3 for bicubic, got {resample!r}.")
    for name, value in (("rescale_factor", rescale_factor), ("image_mean", image_mean), ("image_std", image_std)):
        numbers: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise ValueError(f"`{name}` must be finite, got {value!r}.")
        if do_normalize and do_convert_rgb and isinstance(value, (list, tuple)) and len(value) != 3:
            raise ValueError(f"`{name}` must be a number or three of them, got {value!r}.")
        if name == "image_std" and 0 in numbers:
            raise ValueError(f"`image_std` must not be 0, got {value!r}.")
    if data_format is not None and ChannelDimension(data_format) != ChannelDimension.FIRST:
        raise ValueError(f"`data_format` must be 'channels_first', which the model takes, got {data_format!r}.")


def _most_crop_pixels(max_padded_pixels: int) -> int:
    return max(_MAX_CROP_PIXELS, max_padded_pixels // _CROPS_SHARE)


def _check_pixels(
    index: int,
    height: int,
    width: int,
    *,
    size: SizeDict,
    do_resize: bool,
    max_padded_pixels: int,
    do_pad: bool | None = None,
    do_tile: bool | None = None,
    **kwargs,
) -> None:
    """Raise a `ValueError` if an image becomes too large on its way."""
    short, long = sorted((height, width))
    side, most = square_side(size), _most_crop_pixels(max_padded_pixels)
    if do_tile or (not do_pad and not do_resize):
        return
    if do_pad:
        pixels, most = long**2, max_padded_pixels if do_resize else most
        becomes = f"is padded to a square of {pixels:,}"
    else:
        pixels = side * math.ceil(long * side / short)
        becomes = f"is resized to {pixels:,}"
    if pixels > most:
        raise ValueError(
            f"Image {index} of the call, {width}×{height} pixels, {becomes} pixels; `max_padded_pixels` "
            f"{max_padded_pixels:,} allows {most:,}."
        )


def _height_and_width(image: AnyImage, input_data_format: Any) -> tuple[int, int]:
    if isinstance(image, PIL.Image.Image):
        return image.height, image.width
    shape = image.shape[1:] if image.ndim == 4 else image.shape
    if len(shape) == 2:
        return shape[0], shape[1]
    return tuple(shape[1:] if is_channels_first(shape, input_data_format) else shape[:2])
