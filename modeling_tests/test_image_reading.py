# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Images from files, URLs and base64 text: read upright, or an error that names them."""

import base64
import contextlib
import gzip
import http.server
import io
import socket
import struct
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
import torch

from helpers_images import (
    backends,
    random_pixels,
)
from transformers_fastvlm import image_reading
from transformers_fastvlm.image_reading import image_name, read_image


def encoded(image: PIL.Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@backends
def test_files_urls_and_encoded_images(processor_class, tmp_path):
    image = PIL.Image.fromarray(random_pixels(40, 72))
    data = encoded(image)
    (tmp_path / "picture.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    processor = processor_class(size=64)
    expected = processor(image, return_tensors="pt").pixel_values

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/picture.png"
        sources = [
            tmp_path / "picture.png",
            str(tmp_path / "picture.png"),
            data,
            text,
            f"data:image/png;base64,{text}",
            url,
        ]
        for source in sources:
            assert torch.equal(processor(source, return_tensors="pt").pixel_values, expected)
        server.shutdown()


@backends
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(processor_class, tmp_path, orientation):
    """A camera held in any of eight ways: what the file shows a person is what the model sees."""
    scene = PIL.Image.fromarray(random_pixels(40, 72)).resize((72, 40), PIL.Image.Resampling.BICUBIC)
    # What the sensor recorded: the inverse of what a viewer does for this orientation.
    transposition = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }.get(orientation)
    recorded = scene.transpose(transposition) if transposition is not None else scene
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    recorded.save(path, exif=exif)
    processor = processor_class(size=64)
    expected = processor(scene, return_tensors="pt").pixel_values
    for source in (path, path.read_bytes(), PIL.Image.open(path), PIL.Image.open(path).convert("RGB")):
        assert torch.equal(processor(source, return_tensors="pt").pixel_values, expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_uncompressed_files_are_upright_wherever_they_are_read_from(tmp_path, orientation, mode):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PIL.Image.fromarray(random_pixels(3, 5)).convert(mode), "TIFF", exif=exif)
    path = tmp_path / "picture.tif"
    path.write_bytes(data)
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)))  # turned by Pillow
    assert np.array_equal(read_image(path), expected)
    assert np.array_equal(read_image(data), expected)
    with PIL.Image.open(path) as opened:
        assert np.array_equal(image_reading.upright(image_reading.loaded(opened)), expected)
        assert opened.filename == str(path)


@backends
def test_damaged_metadata_does_not_matter(processor_class):
    image = PIL.Image.fromarray(random_pixels(40, 72))
    expected = processor_class(size=64)(image, return_tensors="pt").pixel_values
    image.info["exif"] = b"no EXIF at all"
    assert torch.equal(processor_class(size=64)(image, return_tensors="pt").pixel_values, expected)


@backends
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_named(processor_class, tmp_path, file_format):
    path = tmp_path / "half.img"
    data = encoded(PIL.Image.fromarray(random_pixels(90, 90)), file_format)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r"half\.img"):
        processor_class(size=64)(path)


@backends
def test_a_truncated_file_opened_by_the_user_is_named(processor_class, tmp_path):
    path = tmp_path / "half.jpg"
    data = encoded(PIL.Image.fromarray(random_pixels(90, 90)), "JPEG")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r"half\.jpg"):
        processor_class(size=64)(PIL.Image.open(path))


@backends
def test_files_that_are_none(processor_class, tmp_path):
    processor = processor_class(size=64)
    with pytest.raises(FileNotFoundError, match="no image file 'missing.png'"):
        processor("missing.png")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(OSError, match=r"notes\.txt"):
        processor(tmp_path / "notes.txt")
    with pytest.raises(OSError, match="<bytes>"):
        processor(b"no picture")


@pytest.fixture
def web():
    """Serves what its `pages` answer to a path, as `http://127.0.0.1:port`; hands each the request's handler."""
    pages: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with contextlib.suppress(OSError):  # the client hangs up
                pages[self.path.partition("?")[0]](self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", pages
        server.shutdown()


def answer(body: bytes, status: int = 200, **headers: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def page(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return page


def drip(chunk: bytes, count: int, pause: float, head: bytes = b"HTTP/1.0 200 OK\r\n\r\n"):
    def page(handler):
        handler.wfile.write(head)
        for _ in range(count):
            handler.wfile.write(chunk)
            time.sleep(pause)

    return page


def failure_of(url: str) -> str:
    """The message of the error that a download ends with, in which nothing secret stands, nor in its causes."""
    with pytest.raises(OSError, match="cannot be|no image file") as raised:
        read_image(url)
    shown = "".join(traceback.format_exception(raised.value, chain=True))
    assert "s3cret" not in str(raised.value) and "t0ken" not in str(raised.value)
    assert raised.value.__cause__ is None or "s3cret" not in shown
    return str(raised.value)


def test_a_download(web):
    host, pages = web
    image = PIL.Image.fromarray(random_pixels(40, 72))
    data = encoded(image)
    pages["/plain"] = answer(data)
    pages["/gzip"] = answer(gzip.compress(data), Content_Encoding="gzip")
    pages["/deflate"] = answer(zlib.compress(data), Content_Encoding="deflate")
    pages["/moved"] = answer(b"", 302, Location="/plain")
    for path in ("plain", "gzip", "deflate", "moved", "plain?token=t0ken#x"):
        assert (np.asarray(read_image(f"http://{host}/{path}")) == np.asarray(image)).all()
    assert (np.asarray(read_image(f"HTTP://{host}/plain")) == np.asarray(image)).all()


def test_a_download_that_fails_is_named_without_its_secrets(web):
    host, pages = web
    pages["/missing.png"] = answer(b"", 404)
    pages["/loop.png"] = answer(b"", 302, Location="/loop.png?t0ken")
    pages["/elsewhere.png"] = answer(b"", 302, Location="file:///etc/passwd")
    pages["/short.png"] = answer(b"half", Content_Length="1000")
    pages["/gibberish.png"] = lambda handler: handler.wfile.write(b"no HTTP at all\r\n\r\n")
    pages["/odd.png"] = answer(b"", Content_Encoding="br")
    pages["/broken.png"] = answer(b"no gzip", Content_Encoding="gzip")
    pages["/text.png"] = answer(b"no image")
    for name in [page.strip("/") for page in pages]:
        message = failure_of(f"http://user:s3cret@{host}/{name}?token=t0ken")
        assert f"'http://{host}/{name}'" in message
    assert "status 404" in failure_of(f"http://{host}/missing.png")
    assert "TooManyRedirects" in failure_of(f"http://{host}/loop.png")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        free = closed.getsockname()[1]
    assert "refused" in failure_of(f"http://user:s3cret@127.0.0.1:{free}/a.png")
    for url in (
        "http://user:s3/cret@host/a.png",
        "http://user:s3cret@[::/a.png",
        "http://user:s3cret@ho st/",
        "https://",
    ):
        assert "s3" not in failure_of(url)
    assert "no image file 'ftp://host/a.png'" in failure_of("ftp://user:s3cret@host/a.png?t0ken")


def test_a_download_has_a_time(web, monkeypatch):
    """However the server spends it: a byte now and then resets a client's own time-outs."""
    host, pages = web
    monkeypatch.setattr(image_reading, "URL_SECONDS", 0.5)
    pages["/body"] = drip(b"x", 100, 0.1)
    pages["/head"] = drip(b"X: y\r\n", 100, 0.1, head=b"HTTP/1.0 200 OK\r\n")
    pages["/status"] = drip(b"H", 100, 0.1, head=b"")
    pages["/nothing"] = drip(b"", 1, 10, head=b"")
    pages["/redirects"] = lambda handler: (time.sleep(0.2), answer(b"", 302, Location="/redirects")(handler))
    for path in pages:
        message = failure_of(f"http://{host}{path}")
        assert "longer than 0.5 seconds" in message or "Timeout" in message
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("MainThread-")]


def test_a_download_has_a_size(web, monkeypatch):
    host, pages = web
    monkeypatch.setattr(image_reading, "URL_BYTES", 2**20)
    pages["/endless"] = drip(b"x" * 2**16, 10**6, 0)
    pages["/bomb"] = answer(gzip.compress(bytes(2**26)), Content_Encoding="gzip")  # 64 KiB
    pages["/large"] = answer(encoded(PIL.Image.fromarray(random_pixels(700, 700)), "BMP"))
    tracemalloc.start()
    try:
        for path in pages:
            assert "more than 1 MiB" in failure_of(f"http://{host}{path}")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_what_is_left_of_a_decompressed_chunk_counts():
    """A chunk may decompress to more than may be kept of it; the rest comes with the next ones."""
    data = encoded(PIL.Image.new("RGB", (2000, 2000)), "BMP")
    decode = image_reading._decoder("gzip")
    compressed = gzip.compress(data)
    assert len(decode(compressed, 1000)) == 1000 and len(decode(b"", len(data))) == len(data) - 1000


class Unreadable(PIL.ImageFile.ImageFile):
    """A lazily opened file whose decoder raises something of its own."""

    format = "UNREADABLE"
    error: Exception = ValueError("damaged")

    def _open(self):
        self._size, self._mode = (40, 30), "RGB"

    def load(self):
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("x"), IndexError("x"), struct.error("x"), EOFError("x"), SyntaxError("x")]
)
@pytest.mark.parametrize("do_convert_rgb", [True, False])
@backends
def test_whatever_a_decoder_raises(processor_class, tmp_path, monkeypatch, error, do_convert_rgb):
    (tmp_path / "picture.unreadable").write_bytes(b"x")
    monkeypatch.setattr(Unreadable, "error", error)
    image = Unreadable(tmp_path / "picture.unreadable")
    with pytest.raises(OSError, match=r"picture\.unreadable' cannot be read: x"):
        processor_class(size=64)(image, do_convert_rgb=do_convert_rgb)


@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@backends
def test_a_damaged_file_opened_by_the_user_is_named(processor_class, tmp_path, file_format):
    path = tmp_path / "damaged.img"
    data = encoded(PIL.Image.fromarray(random_pixels(90, 90)), file_format)
    processor, random, failures = processor_class(size=64), np.random.default_rng(0), 0
    for _ in range(10):
        damaged = bytearray(data)
        for position in random.integers(20, len(data), 30):
            damaged[position] ^= 255
        path.write_bytes(damaged[: len(data) * 3 // 4])
        try:
            image = PIL.Image.open(path)
        except OSError:
            continue
        with contextlib.suppress(OSError):  # nothing else: some damage is not noticed
            processor(image)
            continue
        failures += 1
    assert failures or file_format == "WEBP"


@backends
def test_a_closed_file(processor_class, tmp_path):
    PIL.Image.new("RGB", (40, 30)).save(tmp_path / "closed.png")
    with PIL.Image.open(tmp_path / "closed.png") as image:
        pass
    with pytest.raises(OSError, match=r"closed\.png"):
        processor_class(size=64)(image)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("http://user:pass@host:80/a/b.png?token=1#x", "http://host:80/a/b.png"),
        ("https://host/@user/a.png?mail=a@b", "https://host/@user/a.png"),
        ("http://u:p/w@host/x.png", "http://host/x.png"),
        ("http://u:p?w@host/x.png", "http://host/x.png"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://host:8000?signature=x@y", "http://host:8000"),
        ("HTTPS://u@h/x?y", "HTTPS://h/x"),
        ("s3://key:s@bucket/x", "s3://bucket/x"),
        (b"bytes", "<bytes>"),
        (bytearray(b"bytes"), "<bytes>"),
        (Path("a") / "b.png", "a/b.png"),
        ("A" * 1000, "A" * 60 + "…"),
    ],
)
def test_names(source, name):
    assert image_name(source).replace("\\", "/") == name
