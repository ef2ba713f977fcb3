# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Which images a server reads for those who ask it: nothing of its network, no program of its machine."""

import base64
import http.server
import io
import threading

import PIL.Image
import pytest

pytest.importorskip("pydantic", reason="the server needs the `serve` extra")

from transformers_fastvlm.inference import ModelOptions
from transformers_fastvlm.serving import ServingConfig, image_sources
from transformers_fastvlm.serving.errors import RequestError
from transformers_fastvlm.serving.image_sources import ImageSources, is_public

PICTURE = PIL.Image.new("RGB", (4, 3), "red")


def encoded(file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, file_format)
    return file.getvalue()


def sources(*addresses: str) -> ImageSources:
    return ImageSources(ServingConfig(ModelOptions("x"), allow_urls=addresses))


@pytest.fixture
def web():
    """A server on this machine: `/pictures/red.png`, and `/pictures/to?ADDRESS`, which leads there."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.headers["Host"], self.path))
            path, _, query = self.path.partition("?")
            self.send_response(302 if path.endswith("/to") else 200)
            if query:
                self.send_header("Location", query)
            self.end_headers()
            self.wfile.write(encoded())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"localhost:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def loopback_is_public(monkeypatch):
    """As if this machine were somewhere on the network; not all of its addresses."""
    monkeypatch.setattr(image_sources, "is_public", lambda address: address in ("127.0.0.1", "::1"))
    resolve = image_sources.socket.getaddrinfo
    monkeypatch.setattr(
        image_sources.socket,
        "getaddrinfo",
        lambda host, *args, **options: resolve("127.0.0.1" if host == "localhost" else host, *args, **options),
    )


def test_an_allowed_address_is_fetched_by_its_name(web, loopback_is_public):
    host, asked = web
    prefix = f"http://{host}/pictures/"
    assert sources(prefix).read(f"{prefix}red.png").size == (4, 3)
    assert sources(prefix).read(f"{prefix}to?{prefix}red.png").size == (4, 3)
    assert [host for host, _ in asked] == [host] * 3


@pytest.mark.parametrize(
    "path", ["/secret", "/pictures/../secret", "/pictures/%2e%2e/secret", "/pictures/..%2fsecret", "/pictures"]
)
def test_other_addresses_of_an_allowed_host_are_not_fetched(web, loopback_is_public, path):
    host, asked = web
    with pytest.raises(RequestError, match="fetches no images from"):
        sources(f"http://{host}/pictures/").read(f"http://{host}{path}")
    assert not asked


def test_a_redirect_leads_to_no_other_address(web, loopback_is_public):
    host, asked = web
    prefix = f"http://{host}/pictures/"
    for target in (f"http://{host}/secret", "http://example.com/"):
        with pytest.raises(RequestError, match="fetches no images from"):
            sources(prefix).read(f"{prefix}to?{target}")
    with pytest.raises(RequestError, match="private network"):
        sources(prefix, "http://127.0.0.2/").read(f"{prefix}to?http://127.0.0.2/a.png")
    assert {path.partition("?")[0] for _, path in asked} == {"/pictures/to"}


def test_a_private_address_is_refused_though_it_is_allowed(web):
    host, asked = web
    with pytest.raises(RequestError, match="private network"):
        sources(f"http://{host}/").read(f"http://{host}/pictures/red.png")
    assert not asked


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 10.1.2.3 192.168.0.1 172.16.0.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255 ::1 ::
    fe80::1 fe80::1%eth0 fd00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 2002:7f00:1::""".split(),
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses(address):
    assert is_public(address)


def test_formats_that_other_programs_read_are_refused():
    def url(file_format: str) -> str:
        return f"data:image/{file_format};base64," + base64.b64encode(encoded(file_format)).decode()

    assert sources().read(url("bmp")).size == (4, 3)
    with pytest.raises(RequestError, match="none of PNG"):
        sources().read(url("eps"))
