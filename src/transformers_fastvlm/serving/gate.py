# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Who comes in: keys, how many requests at a time, none while the server stops; all are counted."""

import secrets
import time
from collections import deque
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import RequestError
from .service import Service, stopping

_GUARDED = "/v1/"
_REMEMBERED = 20  # requests, for the time that one takes


class Gate:
    """
    In front of an ASGI application; looks at a request before its body is read.

    Args:
        app: whose requests they are.
        service: with the limits.
        paths: of the routes, by which requests are counted; those of others count together.
    """

    def __init__(self, app: ASGIApp, service: Service, paths: Sequence[str]):
        self._app, self._service, self._paths = app, service, paths
        self._most = service.config.batch_size + service.config.max_waiting
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self.in_flight = 0  # requests to be answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        statuses: list[int] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self._let_in(scope, receive, sending)
        finally:
            path = max((path for path in self._paths if scope["path"].startswith(path)), key=len, default="other")
            self._service.metrics.count_request(path, statuses[0] if statuses else 499)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_work = scope["path"].startswith(_GUARDED) and scope["method"] == "POST"
        try:
            self._check(scope, is_work)
        except RequestError as refusal:
            await JSONResponse(refusal.body(), refusal.status, refusal.headers)(scope, receive, send)
            return
        if not is_work:
            await self._app(scope, receive, send)
            return
        self.in_flight += 1
        start = time.monotonic()
        try:
            await self._app(scope, receive, send)
        finally:
            self.in_flight -= 1
            self._seconds.append(time.monotonic() - start)

    def _check(self, scope: Scope, is_work: bool) -> None:
        key = self._service.config.api_key
        if key is not None and scope["path"].startswith(_GUARDED):
            kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), key.encode()):
                headers = {"WWW-Authenticate": "Bearer"}
                raise RequestError("The API key is missing or wrong.", 401, "invalid_api_key", headers=headers)
        if not is_work:
            return
        if self._service.is_stopping:
            raise stopping()
        if self.in_flight >= self._most:
            average = sum(self._seconds) / len(self._seconds) if self._seconds else 1
            headers = {"Retry-After": str(max(1, round(average)))}
            raise RequestError("Too many requests are waiting: try again later.", 429, "queue_full", headers=headers)
