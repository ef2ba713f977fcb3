# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The server's routes."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..inference.answerer import Answer
from .chat_completions import ChatRequest, chunks, completion
from .conversations import parsed
from .errors import RequestError
from .gate import Gate
from .responses import ResponseForm, ResponseRequest
from .service import RunningAnswer, Service

_BODY_SECONDS = 60.0  # for a request to arrive
_CLIENT_HAS_GONE = 499


def build_app(service: Service) -> Gate:
    """The ASGI application of a service."""

    async def chat_completions(request: Request) -> Response:
        wanted = parsed(ChatRequest, await _json(request, service))
        running = await service.start(wanted.model, wanted.contents(), wanted.options(service.config.max_new_tokens))
        form = (uuid.uuid4().hex, int(time.time()), wanted.model)
        if wanted.stream:
            return AnswerStreaming(running, chunks(aiter(running), wanted, *form))
        return await _whole(request, running, lambda answer: completion(answer, *form))

    async def responses(request: Request) -> Response:
        wanted = parsed(ResponseRequest, await _json(request, service))
        running = await service.start(wanted.model, wanted.contents(), wanted.options(service.config.max_new_tokens))
        form = ResponseForm(wanted, uuid.uuid4().hex, int(time.time()), wanted.model)
        if wanted.stream:
            return AnswerStreaming(running, form.events(aiter(running)))
        return await _whole(request, running, lambda answer: form.response("completed", answer))

    def model(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": service.created, "owned_by": "fastvlm"}

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model(name) for name in service.names]})

    async def one_model(request: Request) -> Response:
        name = request.path_params["name"]
        service.lane(name)
        return JSONResponse(model(name))

    async def health(request: Request) -> Response:
        if service.is_healthy:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "stopping"}, 503)

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    routes = [
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/responses", responses, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", one_model),
        Route("/health", health),
        Route("/metrics", metrics),
    ]
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        RequestError: _refused,
        HTTPException: _no_such_route,
        Exception: _mistake_of_ours,
    }
    paths = [route.path.partition("{")[0] for route in routes]
    return Gate(Starlette(routes=routes, exception_handlers=handlers), service, paths)


class AnswerStreaming(StreamingResponse):
    """An answer that goes out as it is made; work on it ends when the client has gone."""

    def __init__(self, running: RunningAnswer, events: Any):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.cancel()


async def _whole(request: Request, running: RunningAnswer, form: Callable[[Answer], dict[str, Any]]) -> Response:
    answer = asyncio.ensure_future(running.whole())
    gone = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            return Response(status_code=_CLIENT_HAS_GONE)
        return JSONResponse(form(answer.result()))
    finally:
        running.cancel()
        for task in (answer, gone):
            task.cancel()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _json(request: Request, service: Service) -> Any:
    """
    Raises:
        RequestError: if the body is too large, takes too long, or is no JSON.
    """
    most = int(service.config.max_body * 2**20)
    too_large = RequestError(f"The request has more than {service.config.max_body:g} MiB.", 413, "too_large")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large

    async def body() -> bytearray:
        received = bytearray()
        async for chunk in request.stream():
            received += chunk
            if len(received) > most:
                raise too_large
        return received

    try:
        received = await asyncio.wait_for(body(), min(_BODY_SECONDS, service.config.timeout))
    except asyncio.TimeoutError:
        raise RequestError("The request did not arrive in time.", 408, "timeout") from None
    try:
        return json.loads(received.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(f"The request is no JSON: {what}.") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


async def _refused(request: Request, error: Any) -> Response:
    return JSONResponse(error.body(), error.status, error.headers)


async def _no_such_route(request: Request, error: Any) -> Response:
    what = f"{request.method} {request.url.path[:200]} is not served: {error.detail}."
    refusal = RequestError(what, error.status_code, headers=dict(error.headers or {}))
    return await _refused(request, refusal)


async def _mistake_of_ours(request: Request, error: Exception) -> Response:
    return await _refused(request, RequestError("The server failed; its log has more.", 500, "server_failed"))
