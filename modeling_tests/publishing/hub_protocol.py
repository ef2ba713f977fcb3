# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A request, its answer, and who may do what: what the loopback Hub's endpoints are written in."""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import unquote

from publishing.hub_repositories import HubError, Repository, User
from publishing.hub_storage import BlobStore
from transformers_fastvlm.publishing.hub_lists import BUNDLED

API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)"
WEB = r"/((?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+)"


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: BinaryIO
    user: User | None = None

    @property
    def data(self) -> bytes:
        self.body.seek(0)
        return self.body.read()

    def json(self) -> dict:
        return json.loads(self.data or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["0"])[-1].lower() in ("1", "true")


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def answer(value: Any, status: int = 200, headers: dict | None = None) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))


def refusal(error: HubError) -> Response:
    return answer(error.body, error.status, error.headers)


ROUTES: list[tuple[str, re.Pattern, Callable]] = []


def route(methods: str, pattern: str) -> Callable[[Callable], Callable]:
    def register(handler: Callable) -> Callable:
        ROUTES.extend((method, re.compile(pattern), handler) for method in methods.split())
        return handler

    return register


def groups(match: re.Match) -> Iterator[tuple[str, str]]:
    """The named parts of a path that it has, as they were before they were quoted."""
    return ((name, unquote(text)) for name, text in match.groupdict().items() if text is not None)


def ranged(content: bytes, wanted: str | None, headers: dict[str, str]) -> Response:
    """The content, or the one range of it that a `Range` header asks for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if match is None or match[0] == "bytes=-":
        return Response(200, content, headers)
    size = len(content)
    start = int(match[1]) if match[1] else max(0, size - int(match[2]))
    stop = min(size, int(match[2]) + 1) if match[1] and match[2] else size
    if start >= size or start >= stop:
        raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return Response(206, content[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"})


def joined(parts: Iterable[bytes]) -> BinaryIO:
    return io.BytesIO(b"".join(parts))


class Endpoints:
    """The state of the Hub, and the checks that its endpoints share."""

    def __init__(
        self,
        endpoint: str,
        store: BlobStore,
        users: Mapping[str, User],
        lfs_threshold: int,
        part_size: int | None,
    ) -> None:
        self.endpoint = endpoint
        self.store = store
        self.users = users
        self.lfs_threshold = lfs_threshold
        self.part_size = part_size
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.lists = BUNDLED

    def handle(self, request: Request) -> Response:
        try:
            request.user = self.authenticate(request.headers.get("Authorization"))
            for method, pattern, handler in ROUTES:
                match = pattern.fullmatch(request.path)
                if method == request.method and match is not None:
                    return handler(self, request, **dict(groups(match)))
            raise HubError(404, f"The loopback Hub has no {request.method} {request.path}")
        except HubError as error:
            return refusal(error)
        except (KeyError, ValueError) as error:
            return refusal(HubError(400, f"Malformed request: {error!r}"))

    def authenticate(self, authorization: str | None) -> User | None:
        if authorization is None:
            return None
        user = self.users.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def readable(self, request: Request, repo: str, kind: str = "models") -> Repository:
        repository = self.repositories.get((kind, repo))
        visible = repository is not None and (
            not repository.private or (request.user is not None and request.user.may_read(repository.namespace))
        )
        if visible:
            return repository
        if request.user is None:
            # The code is what the client goes by: it reads a bare 401 as a missing repository over https only.
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        raise HubError(404, "Repository not found", "RepoNotFound")

    def writable(self, request: Request, repo: str, kind: str = "models", pull_request: bool = False) -> Repository:
        repository = self.readable(request, repo, kind)
        if request.user is None:
            raise HubError(401, "Invalid username or password.")
        if request.user.role != "write":
            raise HubError(403, "Forbidden: you must use a write token to upload to a repository.")
        if not pull_request and not request.user.may_write(repository.namespace):
            raise HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repository
