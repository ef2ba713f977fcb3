# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Responses of OpenAI's API: the request's fields, and what goes out."""

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

from pydantic import Field

from ..inference.answer_options import AnswerOptions
from ..inference.answerer import Answer
from .conversations import Fields, Role, Temperature, Tokens, TopP, answer_options, only
from .errors import RequestError


class _Text(Fields):
    type: Literal["input_text", "output_text"]
    text: str
    annotations: only([]) = None  # type: ignore[valid-type]
    logprobs: only([]) = None  # type: ignore[valid-type]


class _Image(Fields):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] | None = None
    file_id: only() = None  # type: ignore[valid-type]


class _Message(Fields):
    role: Role
    content: str | list[_Text | _Image]
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class ResponseRequest(Fields):
    """A request for a response."""

    model: str
    input: str | list[_Message] = Field(min_length=1)
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    # Only for the client's own records.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: only(False) = None  # type: ignore[valid-type]
    background: only(False) = None  # type: ignore[valid-type]
    previous_response_id: only() = None  # type: ignore[valid-type]
    conversation: only() = None  # type: ignore[valid-type]
    include: only([]) = None  # type: ignore[valid-type]
    prompt: only() = None  # type: ignore[valid-type]
    reasoning: only({}) = None  # type: ignore[valid-type]
    text: only({}, {"format": {"type": "text"}}) = None  # type: ignore[valid-type]
    tools: only([]) = None  # type: ignore[valid-type]
    tool_choice: only("none", "auto") = None  # type: ignore[valid-type]
    parallel_tool_calls: only(True, False) = None  # type: ignore[valid-type]
    max_tool_calls: only() = None  # type: ignore[valid-type]
    top_logprobs: only(0) = None  # type: ignore[valid-type]
    truncation: only("disabled") = None  # type: ignore[valid-type]
    service_tier: only("auto", "default") = None  # type: ignore[valid-type]
    stream_options: only({}) = None  # type: ignore[valid-type]

    def options(self, default_tokens: int) -> AnswerOptions:
        return answer_options(
            default_tokens, max_new_tokens=self.max_output_tokens, temperature=self.temperature, top_p=self.top_p
        )

    def contents(self) -> list[tuple[Role, str | list[dict[str, str]]]]:
        """Roles and contents, as `to_conversation` takes them."""
        contents: list[tuple[Role, str | list[dict[str, str]]]] = []
        if self.instructions is not None:
            contents.append(("system", self.instructions))
        if isinstance(self.input, str):
            return [*contents, ("user", self.input)]
        for each in self.input:
            parts = each.content if isinstance(each.content, str) else [_plain(part) for part in each.content]
            contents.append((each.role, parts))
        return contents


def _plain(part: _Text | _Image) -> dict[str, str]:
    return {"image": part.image_url} if isinstance(part, _Image) else {"text": part.text}


class ResponseForm:
    """
    The form of one response.

    Args:
        request: that is answered.
        request_id: unique.
        created: seconds since 1970.
        model: what the answer calls it.
    """

    def __init__(self, request: ResponseRequest, request_id: str, created: int, model: str):
        self._request, self._id, self._created, self._model = request, request_id, created, model
        self._number = 0

    def response(self, status: str, answer: Answer | None = None) -> dict[str, Any]:
        """The response as it stands."""
        request = self._request
        if answer is not None and answer.finish_reason == "length":
            status = "incomplete"
        usage = None if answer is None else {
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.prompt_tokens + answer.tokens,
        }  # fmt: skip
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {},
            "model": self._model,
            "output": [] if answer is None else [self._message(status, answer.text)],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": request.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": request.top_p,
            "truncation": "disabled",
            "usage": usage,
        }

    async def events(self, running: AsyncIterator[str | Answer]) -> AsyncIterator[str]:
        """The response as server-sent events, token by token; an error on the way is the last of them."""
        place = {"item_id": f"msg_{self._id}", "output_index": 0, "content_index": 0}
        yield self._event("response.created", response=self.response("in_progress"))
        yield self._event("response.in_progress", response=self.response("in_progress"))
        message = self._message("in_progress", None)
        yield self._event("response.output_item.added", output_index=0, item=message)
        yield self._event("response.content_part.added", **place, part=_part(""))
        try:
            async for piece in running:
                if isinstance(piece, str):
                    yield self._event("response.output_text.delta", **place, delta=piece, logprobs=[])
                    continue
                whole = self.response("completed", piece)
                yield self._event("response.output_text.done", **place, text=piece.text, logprobs=[])
                yield self._event("response.content_part.done", **place, part=_part(piece.text))
                yield self._event("response.output_item.done", output_index=0, item=whole["output"][0])
                yield self._event(f"response.{whole['status']}", response=whole)
        except RequestError as error:
            details = error.body()["error"]
            yield self._event("error", message=details["message"], code=details["code"], param=details["param"])

    def _message(self, status: str, text: str | None) -> dict[str, Any]:
        content = [] if text is None else [_part(text)]
        return {
            "id": f"msg_{self._id}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _event(self, kind: str, **content: Any) -> str:
        whole = {"type": kind, "sequence_number": self._number, **content}
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(whole)}\n\n"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
