# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Images that requests name: inside the request, and from places that the server's owner allows."""

import base64
import binascii
import io
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import PIL.Image
from transformers import image_utils

from ..image_reading import download, image_name, read_image
from .configuration import ServingConfig
from .errors import RequestError

httpx = image_utils.httpx  # the client that downloads, whichever library transformers has it from

# What browsers show, and scanners write. Pillow hands some others to programs beside it.
PIL.Image.init()
FORMATS = tuple(name for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") if name in PIL.Image.OPEN)
_DATA_URL = re.compile(r"data:[^,;]*(;[^,;]*)*;base64$", re.IGNORECASE)


class ImageSources:
    """
    Reads images within the limits of a server.

    Args:
        config: with its limits, and the folders and addresses that it allows.
    """

    def __init__(self, config: ServingConfig):
        self.most_pixels = int(config.max_pixels * 1e6)
        self._most_bytes = int(config.max_body * 2**20)
        self._folders = [Path(folder).resolve() for folder in config.allow_local_paths]
        self._prefixes = [str(httpx.URL(address)) for address in config.allow_urls]

    def read(self, address: str, most_pixels: int | None = None) -> PIL.Image.Image:
        """
        An image by its `data:` URL, or by an address or a path that are allowed.

        Args:
            address: of the image.
            most_pixels: that it may have; by default, what all images of a request may have together.

        Raises:
            RequestError: if it is not allowed, not there, or no image within the limits.
        """
        scheme = urlsplit(address[:64]).scheme.lower() if ":" in address[:64] else ""
        if scheme == "data":
            content = _data(address)
        elif scheme in ("http", "https"):
            content = self._fetch(address)
        elif scheme in ("", "file"):
            content = self._read_file(address)
        else:
            raise RequestError(f"An image's address begins with data:, http: or https:, not {scheme}:.")
        return self._image(content, self.most_pixels if most_pixels is None else most_pixels)

    def _image(self, content: bytes, most_pixels: int) -> PIL.Image.Image:
        try:
            with PIL.Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
            if width * height <= most_pixels:
                return read_image(content)
        except PIL.Image.DecompressionBombError as error:
            raise RequestError(f"An image has more pixels than this server takes: {error}") from error
        except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
            raise RequestError(f"An image cannot be read: it is damaged, or none of {', '.join(FORMATS)}.") from error
        limit = f"this server takes {self.most_pixels / 1e6:g} million, in all images of a request together"
        raise RequestError(f"An image has {width} × {height} pixels; {limit}.")

    def _fetch(self, address: str) -> bytes:
        with GuardedTransport(self._prefixes) as transport:
            try:
                transport.check(httpx.URL(address))
                return download(address, transport)
            except httpx.InvalidURL as error:
                raise RequestError(f"An image's address is not valid: {error}.") from error
            except (OSError, httpx.TransportError) as error:
                raise RequestError(str(error)) from error

    def _read_file(self, address: str) -> bytes:
        name = unquote(urlsplit(address).path) if address[:5].lower() == "file:" else address
        refusal = RequestError("This server reads no images by path: send them as data: URLs.")
        if not self._folders:
            raise refusal
        try:
            path = Path(os.path.realpath(name))
            if not any(path.is_relative_to(folder) for folder in self._folders):
                raise RequestError(f"The image {image_name(name)!r} is in no folder that this server reads.")
            if not path.is_file():
                raise RequestError(f"There is no image file {image_name(name)!r}.")
            if path.stat().st_size > self._most_bytes:
                raise RequestError(f"The image {image_name(name)!r} has more than {self._most_bytes / 2**20:g} MiB.")
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise RequestError(f"The image {image_name(name)!r} cannot be read.") from error


def _data(address: str) -> bytes:
    head, comma, text = address.partition(",")
    if not comma or not _DATA_URL.match(head):
        raise RequestError("An image's data: URL must be like data:image/png;base64,… .")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("An image's data: URL is not base64.") from None  # the cause may hold the whole text


class GuardedTransport(httpx.BaseTransport):
    """
    Sends requests, those of redirects too, to addresses that are allowed and public, and refuses others.

    A host is resolved once, and the connection goes to what was looked at.

    Args:
        prefixes: what allowed addresses begin with.
    """

    def __init__(self, prefixes: Sequence[str]):
        self._prefixes = tuple(prefixes)
        self._inner = httpx.HTTPTransport()

    def check(self, url: httpx.URL) -> None:
        """
        Raises:
            httpx.ConnectError: if no prefix is the address's beginning.
        """
        has_steps_up = any(unquote(part) in ("..", ".") for part in re.split(r"[/\\]", unquote(url.path)))
        if has_steps_up or url.userinfo or not str(url).startswith(self._prefixes):
            raise httpx.ConnectError(
                f"This server fetches no images from {image_name(str(url))}: send them as data: URLs."
            )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.check(request.url)
        host = request.url.host
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=_public_address(host, request.url.port)),
            headers=request.headers,  # with the host by name
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return self._inner.handle_request(pinned)

    def close(self) -> None:
        self._inner.close()


def _public_address(host: str, port: int | None) -> str:
    """An address of a host, all of whose addresses are on the public network."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise httpx.ConnectError(f"The host {host} is not known.") from error
    if not all(is_public(address) for address in found):
        raise httpx.ConnectError(f"The host {host} is on a private network, from which this server fetches nothing.")
    return found[0]


def is_public(address: str) -> bool:
    """Whether an IP address is on the public network; one of version 6 that stands for one of version 4 is not."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        translated = ip in ipaddress.ip_network("64:ff9b::/96") or ip in ipaddress.ip_network("64:ff9b:1::/48")
        if translated or ip.ipv4_mapped or ip.sixtofour or ip.teredo:
            return False
    return ip.is_global and not ip.is_multicast
