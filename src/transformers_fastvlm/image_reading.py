# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Images from files, URLs, base64 text and bytes, and PIL images not read yet: upright, in RGB, or an error."""

import base64
import binascii
import io
import os
import re
import threading
import time
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from transformers import image_utils

from .image_values import AnyImage, to_8bit_array

_EXIF_ORIENTATION = 0x0112
_LONGEST_NAME = 200
_HOST_AND_PORT = r"([^:\[\]]*|\[.*\])(:\d*)?"

URL_SECONDS = 60.0  # for the whole of a download, redirects included
URL_BYTES = 128 * 2**20  # as sent, and again once decompressed
_URL_WAIT = 20.0  # seconds for one connection, and for the next bytes
_REDIRECTS = 5


def image_name(source: Any) -> str:
    """What messages call an image: its path or URL without user, password and query, or the start of its text."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    name = os.fsdecode(source)
    scheme, mark, rest = name.partition("://")
    if mark and scheme.isalnum():
        authority = re.split("[/?#]", rest, maxsplit=1)[0]
        if "@" in authority or re.fullmatch(_HOST_AND_PORT, authority):
            rest = rest[authority.rfind("@") + 1 :]
        else:  # a user, and a password with characters that end a host
            rest = rest[rest.rfind("@") + 1 :]
        name = scheme + mark + re.split("[?#]", rest, maxsplit=1)[0]
    return name if len(name) <= _LONGEST_NAME else f"{name[:60]}…"


def read_image(source: str | os.PathLike | bytes | bytearray | memoryview) -> PIL.Image.Image:
    """Read an image given by path, `http(s)` URL, `data:` URI, base64 text or the bytes of its file.

    A download may take 60 seconds and 128 MiB, five redirects included.

    Raises:
        OSError: if there is no such file, it cannot be downloaded within these limits, or it is truncated or no image;
            the message names it, a URL without its user, password and query.
    """
    name = image_name(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: Any = io.BytesIO(source)
    elif isinstance(source, str) and source[:8].lower().startswith(("http://", "https://")):
        file = io.BytesIO(download(source))
    elif os.path.isfile(source):
        file = source
    else:
        try:
            text = os.fspath(source).partition(",")[2] if str(source).startswith("data:") else os.fspath(source)
            file = io.BytesIO(base64.b64decode("".join(text.split()), validate=True))
        except (binascii.Error, ValueError, TypeError):
            # Not chained: the cause may hold the whole text.
            raise FileNotFoundError(f"There is no image file {name!r}, and it is neither a URL nor base64.") from None
    try:
        with PIL.Image.open(file) as image:
            _load(image)
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
        raise OSError(f"The image {name!r} cannot be read: {error}") from error
    return image


def download(url: str, transport: Any = None) -> bytes:
    """The body that an `http(s)` URL leads to, within the limits of [`read_image`].

    The work is a thread's, since a server that sends its headers byte by byte is within every limit of the client.

    Args:
        url: where to begin.
        transport: an `httpx.BaseTransport` that sends each request, those of redirects too, or refuses to.

    Raises:
        OSError: if it cannot be downloaded; the message names the URL without its user, password and query.
    """
    name = image_name(url)
    result: list[bytes] = []
    failure: list[str] = []
    clients: list[Any] = []

    def work() -> None:
        try:
            client = image_utils.httpx.Client(
                follow_redirects=True,
                max_redirects=_REDIRECTS,
                timeout=min(_URL_WAIT, URL_SECONDS),
                transport=transport,
                headers={"Accept-Encoding": "identity"},
            )
            clients.append(client)
            with client:
                result.append(_read_body(client, url))
        except Exception as error:
            failure.append(_failure(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(URL_SECONDS)
    if thread.is_alive():
        for client in clients:
            client.close()  # which ends the thread with the next bytes, or after waiting for them
        failure.append(f"it took longer than {URL_SECONDS:g} seconds")
    if failure:
        raise OSError(f"The image {name!r} cannot be downloaded: {failure[0]}.")
    return result[0]


class _DownloadError(Exception):
    """Why a download was given up, in words that quote neither its address nor the server."""


def _read_body(client: Any, url: str) -> bytes:
    deadline = time.monotonic() + URL_SECONDS
    with client.stream("GET", url) as response:
        if not response.is_success:
            raise _DownloadError(f"the server answered with status {response.status_code}")
        decode = _decoder(response.headers.get("content-encoding", ""))
        sent, body = 0, bytearray()
        for chunk in response.iter_raw():
            sent += len(chunk)
            body += decode(chunk, URL_BYTES + 1 - len(body))
            if max(sent, len(body)) > URL_BYTES:
                raise _DownloadError(f"it has more than {URL_BYTES / 2**20:g} MiB")
            if time.monotonic() > deadline:
                raise _DownloadError(f"it took longer than {URL_SECONDS:g} seconds")
        return bytes(body)


def _decoder(encoding: str) -> Any:
    """What decompresses chunks of a body, each to at most as many bytes as are left; the server was asked for none."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda chunk, _: chunk
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _DownloadError("the server compressed it in a way that was not asked for")
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header

    def decode(chunk: bytes, left: int) -> bytes:
        return decompressor.decompress(decompressor.unconsumed_tail + chunk, max(left, 1))

    return decode


def _failure(error: Exception) -> str:
    """What went wrong, without the address: messages of HTTP errors quote it, password and all."""
    if isinstance(error, _DownloadError):
        return str(error)
    kind = type(error).__name__
    # Transport errors carry the words of the operating system or of the protocol's parser.
    is_transport = isinstance(error, image_utils.httpx.TransportError) and str(error)
    return f"{kind}: {error}" if is_transport else kind


def loaded(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image with its pixels read: those of one that was only opened are still in its file.

    Raises:
        OSError: if they cannot be read, whatever the decoder raises; the message names the file.
    """
    try:
        _load(image)
    except Exception as error:
        name = image_name(getattr(image, "filename", "") or "given")
        raise OSError(f"The image {name!r} cannot be read: {error}") from error
    return image


def _load(image: PIL.Image.Image) -> None:
    # Pillow maps what has a file name into memory, a TIFF that is to be turned with its sides the wrong way around.
    name = getattr(image, "filename", None)
    if name:
        image.filename = ""  # type: ignore[attr-defined]
    try:
        image.load()
    finally:
        if name:
            image.filename = name  # type: ignore[attr-defined]


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image turned as its EXIF orientation says; as it is where it has none."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        return image if orientation == 1 else PIL.ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # damaged metadata, on which Pillow raises anything, does not make a picture unreadable
        return image


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """The upright image in mode `RGB`. Alpha is dropped, as in the original; 16 bits and floats are scaled to 8.

    Raises:
        OSError: if the pixels behind the image cannot be read.
        ValueError: if they are NaN or out of range.
    """
    image = upright(loaded(image))
    [pixels] = wide_to_arrays([image])
    if not isinstance(pixels, PIL.Image.Image):
        image = PIL.Image.fromarray(to_8bit_array(np.asarray(pixels)))
    elif image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGB")


def wide_to_arrays(images: Sequence[AnyImage]) -> list[AnyImage]:
    """The images, with PIL's of more than 8 bits or floating-point numbers as arrays, (height, width), upright.

    Mode `I` holds 32 bits, of which files fill 16 or 8: 16 in all of them if one has larger values.
    """
    wide = [
        np.asarray(upright(loaded(image))) if isinstance(image, PIL.Image.Image) and _is_wide(image) else None
        for image in images
    ]
    brightest = max((pixels.max() for pixels in wide if pixels is not None and pixels.dtype == np.int32), default=0)
    if 255 < brightest <= 65535:
        wide = [
            pixels.astype(np.uint16)
            if pixels is not None and pixels.dtype == np.int32 and pixels.min() >= 0
            else pixels
            for pixels in wide
        ]
    return [image if pixels is None else pixels for image, pixels in zip(images, wide)]


def _is_wide(image: PIL.Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")
