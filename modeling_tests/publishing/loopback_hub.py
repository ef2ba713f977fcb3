# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face Hub on this machine for tests: the real clients talk to it over HTTP, and it can be made to fail.

    with LoopbackHub(tmp_path / "hub", users={"hf_alice": User("alice")}) as hub:
        patched_client(monkeypatch, hub, token="hf_alice", cache_dir=tmp_path / "cache")
        huggingface_hub.create_repo("alice/model")
        assert set(hub.snapshot("alice/model")) == {".gitattributes"}

With `xet=True` large files go through hf_xet into a folder, which hf_xet locks while it transfers: processes that
upload or download by Xet have to take turns. Faults cannot reach those transfers, since they are not requests.
"""

import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import parse_qs, urlsplit

from publishing.hub_protocol import Request, Response, answer
from publishing.hub_repositories import Repository, User
from publishing.hub_storage import BlobStore
from publishing.hub_uploads import HubApi

__all__ = ["Fault", "LoggedRequest", "LoopbackHub", "User", "client_environment", "patched_client"]

BLOCK = 64 << 10
IN_MEMORY = 32 << 20
LFS_THRESHOLD = 10 << 20
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE")


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of a method whose path `path` (a regular expression) is found in.

    With `status` they are answered so, unprocessed. Otherwise the connection is cut: after `after_bytes` of the
    request's body (`at="request"`: it is not processed) or of the answer's body (`at="response"`: it has been).
    """

    method: str
    path: str
    times: int = 1
    after_bytes: int | None = None
    at: Literal["request", "response"] = "request"
    status: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.status is None) == (self.after_bytes is None):
            raise ValueError("A fault has either a status or a number of bytes.")

    def cut(self, at: str) -> int | None:
        return self.after_bytes if self.at == at else None

    def answer(self) -> Response:
        message = {"X-Error-Message": self.body["error"]} if "error" in self.body else {}
        return answer(self.body, self.status, message | dict(self.headers))


@dataclass(frozen=True)
class LoggedRequest:
    """A request, and the bytes of its and of its answer's body; the status is None where the connection was cut."""

    method: str
    path: str
    status: int | None
    received: int
    sent: int


class ConnectionCut(Exception):
    """A fault, or the client, ended the connection within a body."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "HubServer"
    received = 0

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are kept in `LoopbackHub.requests`."""

    def handle_request(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        self.received = 0
        fault = hub.take_fault(self.command, url.path)
        try:
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as body:
                self.receive(body, fault.cut("request") if fault else None)
                request = Request(self.command, url.path, parse_qs(url.query), self.headers, body)
                response = fault.answer() if fault and fault.status else hub.handle(request)
        except (ConnectionCut, ConnectionError):
            self.close_connection = True
            hub.log(LoggedRequest(self.command, self.path, None, self.received, 0))
        else:
            self.send(response, fault.cut("response") if fault else None)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def receive(self, body: IO[bytes], cut: int | None) -> None:
        for length in self.chunk_lengths():
            left = length
            while left:
                limit = left if cut is None else min(left, cut - self.received)
                block = self.rfile.read(min(BLOCK, limit)) if limit else b""
                if not block:
                    raise ConnectionCut
                body.write(block)
                self.received += len(block)
                left -= len(block)
        if cut is not None and self.received >= cut:
            raise ConnectionCut

    def chunk_lengths(self) -> Iterator[int]:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield int(self.headers.get("Content-Length", 0))
            return
        while length := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            yield length
            self.rfile.readline()
        self.rfile.readline()

    def send(self, response: Response, cut: int | None) -> None:
        body = b"" if self.command == "HEAD" else response.body
        part, status = (body, response.status) if cut is None else (body[:cut], None)
        self.close_connection |= cut is not None
        # Before the client has its answer, so that what it does next finds this request in the log.
        self.server.hub.log(LoggedRequest(self.command, self.path, status, self.received, len(part)))
        headers = {"Content-Length": str(len(response.body))} | response.headers
        try:
            self.send_response(response.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(part)
        except ConnectionError:
            self.close_connection = True


class HubServer(ThreadingHTTPServer):
    """A server whose end also ends the connections that clients keep open."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, hub: "LoopbackHub") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        self.shutdown()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended by itself
        self.server_close()


class LoopbackHub:
    """The server and its state. `users` has each token's user; files above `lfs_threshold` bytes are large, and those
    above `part_size` are uploaded in parts; `faults` and `requests` are there to be filled and read by tests."""

    def __init__(
        self,
        storage: Path,
        users: Mapping[str, User] | None = None,
        *,
        xet: bool = False,
        lfs_threshold: int = LFS_THRESHOLD,
        part_size: int | None = None,
    ) -> None:
        self.faults: list[Fault] = []
        self.requests: list[LoggedRequest] = []
        self.server = HubServer(self)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.store = BlobStore(Path(storage), xet)
        self.api = HubApi(self.endpoint, self.store, users or {}, lfs_threshold, part_size)
        self.lock = threading.RLock()
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), name="loopback-hub")

    def __enter__(self) -> "LoopbackHub":
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.end()
        self.thread.join()

    def handle(self, request: Request) -> Response:
        with self.lock:
            return self.api.handle(request)

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def log(self, request: LoggedRequest) -> None:
        with self.lock:
            self.requests.append(request)

    def requests_to(self, method: str, path: str) -> list[LoggedRequest]:
        """The requests of a method so far whose path the regular expression is found in."""
        with self.lock:
            return [request for request in self.requests if request.method == method and re.search(path, request.path)]

    def repository(self, repo_id: str, kind: str = "models") -> Repository:
        return self.api.repositories[kind, repo_id]

    def snapshot(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a revision, bit for bit."""
        with self.lock:
            files = self.repository(repo_id).resolve(revision).files
            return {path: self.store.read(file.sha256) for path, file in files.items()}

    def head(self, repo_id: str, revision: str = "main") -> str:
        with self.lock:
            return self.repository(repo_id).resolve(revision).oid

    def refs(self, repo_id: str) -> dict[str, str]:
        with self.lock:
            return dict(self.repository(repo_id).refs)


def client_environment(hub: LoopbackHub, home: Path, token: str | None = None, xet: bool = False) -> dict[str, str]:
    """The environment of a process whose Hub is this one and whose caches are below `home`."""
    kept = {name: value for name, value in os.environ.items() if name not in TOKEN_VARIABLES}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH", "HF_XET_CACHE", "TRANSFORMERS_OFFLINE"):
        kept.pop(name, None)
    return kept | client_variables(hub, xet) | {"HF_HOME": str(home)} | ({"HF_TOKEN": token} if token else {})


def client_variables(hub: LoopbackHub, xet: bool) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "DISABLE_SAFETENSORS_CONVERSION": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def patched_client(
    monkeypatch: Any, hub: LoopbackHub, token: str | None = None, *, cache_dir: Path, xet: bool = False
) -> None:
    """Points this process's huggingface_hub, transformers and PEFT at the Hub until `monkeypatch` is undone.

    They have read the environment when they were imported, so that what they keep of it is set too.
    """
    import huggingface_hub
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import _cache_manager, _xet

    home = Path(cache_dir)
    for name in (*TOKEN_VARIABLES, "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (client_variables(hub, xet) | ({"HF_TOKEN": token} if token else {})).items():
        monkeypatch.setenv(name, value)
    values = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": not xet,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
        "HF_XET_CACHE": str(home / "xet"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value, raising=False)
    monkeypatch.setattr(_cache_manager, "HF_HUB_CACHE", values["HF_HUB_CACHE"], raising=False)
    # The functions of huggingface_hub are methods of this instance, which keeps the endpoint of its time.
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
    monkeypatch.setattr(_xet, "XET_CONNECTION_INFO_CACHE", {}, raising=False)
    huggingface_hub.close_session()
