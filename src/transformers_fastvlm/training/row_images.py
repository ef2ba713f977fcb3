# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The images of a row: where its columns and its messages have them, and which of them may be read."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from ..image_reading import image_name, read_image, to_rgb
from .layouts import IMAGE_TOKEN, Message, RowError

# Of every row: the folder that its images are in, as a file of rows names them. Empty where rows come from elsewhere.
ROOT_COLUMN = "source_root"
_IMAGE_KINDS = ("image", "image_url")
_ORIENTATION = 0x0112  # of EXIF


@dataclass(frozen=True)
class ImageAccess:
    """
    What a data set may name as its images, besides what is in it and under its folder.

    Args:
        urls: addresses, which are fetched whenever a row is read.
        outside: files outside of that folder.
    """

    urls: bool = False
    outside: bool = False


def values_in(column: Any) -> list[Any]:
    """The images that a column has: one, several, or none."""
    if isinstance(column, str) and column.lstrip()[:1] == "[":
        try:
            column = json.loads(column)  # as CSV files have lists
        except (ValueError, RecursionError):
            return [column]
    return list(column) if isinstance(column, (list, tuple)) else [] if column in (None, "") else [column]


def put_in_place(messages: Sequence[Message], values: Sequence[Any], token: str) -> tuple[list[Message], list[Any]]:
    """
    Messages whose image parts say nothing but that there is one, and the images in the order of their places.

    Args:
        messages: with contents of texts or parts. An image part may have the image, or its number in the column.
        values: of the column of images. Where nothing in the messages says where they are, they come first.
        token: placeholder of an image in texts, besides `<image>`.

    Raises:
        RowError: if a part is none, or there are more or fewer images than places.
    """
    waiting, placed, found = list(values), [], []
    for message in messages:
        parts = message["content"]
        if isinstance(parts, str):
            text = parts if token == IMAGE_TOKEN else parts.replace(IMAGE_TOKEN, token)
            count = text.count(token)
            found += [_Waiting(None)] * count
            placed.append({**message, "content": text})
            continue
        kept = [_part(part, token) for part in parts]
        found += [value for _, values in kept for value in values]
        placed.append({**message, "content": [part for part, _ in kept]})
    images = _taken(found, waiting)
    if not found and waiting:
        return _in_front(placed, len(waiting)), waiting
    return placed, images


@dataclass(frozen=True)
class _Waiting:
    """A place for an image of the column: the one of that number, or the next."""

    index: int | None


def _part(part: Any, token: str) -> tuple[dict[str, str], list[Any]]:
    """A part of a message without its image, and the images or places that it has."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        text = part["text"].replace(IMAGE_TOKEN, token)
        return {"type": "text", "text": text}, [_Waiting(None)] * text.count(token)
    if kind not in _IMAGE_KINDS:
        raise RowError(f"A part of a message is of type {kind!r}, not 'text' or 'image'.", "messages")
    value = next((part[name] for name in ("image", "image_url", "url", "path") if part.get(name) is not None), None)
    if isinstance(value, dict) and "url" in value:
        value = value["url"]
    index = part.get("index")
    return {"type": "image"}, [_Waiting(index if isinstance(index, int) else None) if value is None else value]


def _taken(found: list[Any], waiting: list[Any]) -> list[Any]:
    places = [each for each in found if isinstance(each, _Waiting)]
    if found and len(places) != len(waiting):
        raise RowError(
            f"{len(waiting)} images but {len(places)} `{IMAGE_TOKEN}` or image parts in the messages.", "placeholders"
        )
    order = [each.index for each in places]
    in_turn = iter(range(len(waiting)))
    if sorted(index for index in order if index is not None) == list(range(len(waiting))):
        in_turn = iter(order)  # type: ignore[arg-type]
    return [waiting[next(in_turn)] if isinstance(each, _Waiting) else each for each in found]


def _in_front(messages: list[Message], count: int) -> list[Message]:
    """The same with so many images before the first of the user's texts."""
    parts: list[dict[str, str]] = [{"type": "image"}] * count
    placed = []
    for message in messages:
        if parts and message["role"] == "user":
            content = message["content"]
            texts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            message, parts = {**message, "content": [*parts, *texts]}, []
        placed.append(message)
    if parts:
        raise RowError("There are images, but no user's turn that could show them.", "placeholders")
    return placed


def read_row_image(value: Any, index: int, root: str | None, access: ImageAccess) -> PIL.Image.Image:
    """
    One image, decoded, upright and in RGB.

    Args:
        value: a PIL image, the bytes of a file, a path, an address, or what `datasets` stores.
        index: its number in the row, for messages.
        root: folder of the row's files; `None` for rows that are no file's, whose paths are the caller's own.
        access: what else may be read.

    Raises:
        RowError: if it is missing, unreadable, or may not be read.
    """
    if isinstance(value, dict):  # as `datasets` stores images
        value = value.get("bytes") or value.get("path")
    if value is None:
        raise RowError(f"Image {index} is missing: there is neither a path nor a content.", "image")
    try:
        if isinstance(value, (str, os.PathLike)):
            value = _allowed(os.fspath(value), root, access)
        return to_rgb(value if isinstance(value, PIL.Image.Image) else read_image(value))
    except Exception as error:  # requests, decoders and pixels fail in many ways
        raise RowError(f"Image {index}: {error}", "image") from error


def image_digest(value: Any, root: str | None, access: ImageAccess) -> str:
    """
    What tells an image from others, unread: a digest of its file's bytes, or of its pixels where it is decoded. An
    address stands for itself.

    Args:
        value, root, access: as of `read_row_image`.

    Raises:
        RowError: if there is none, or its file may not be read.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    digest = hashlib.sha256()
    try:
        if isinstance(value, (str, os.PathLike)):
            name = _allowed(os.fspath(value), root, access)
            value = Path(name).read_bytes() if _exists(Path(name)) else name.encode()
        if isinstance(value, PIL.Image.Image):
            digest.update(repr((value.mode, value.size, value.getexif().get(_ORIENTATION))).encode())
            value = value.tobytes()
        digest.update(value)
    except Exception as error:  # as when it is read
        raise RowError(f"An image cannot be read: {error}", "image") from error
    return digest.hexdigest()


def _allowed(name: str, root: str | None, access: ImageAccess) -> str:
    """The path, address or content that a row names, once it may be read."""
    if name.startswith("data:"):
        return name
    if "://" in name[:20]:
        if not access.urls:
            raise PermissionError(f"{image_name(name)} is an address, and addresses are not allowed (--allow_urls).")
        return name
    path = Path(root or "", name)
    if root is None or access.outside or not _exists(path):  # what is no path, the reader says or decodes
        return str(path) if _exists(path) else name
    if not _inside(path, root):
        raise PermissionError(f"{name} is outside of {root or 'the data set'} (--allow_outside).")
    return str(path)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero in it
        return False


def _inside(path: Path, root: str) -> bool:
    folders: list[Any] = [root]
    if not root:  # what `datasets` has put there
        from datasets import config

        folders = [config.HF_DATASETS_CACHE, config.HF_CACHE_HOME]
    return any(path.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)
