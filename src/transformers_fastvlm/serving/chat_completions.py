# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Chat completions of OpenAI's API: the request's fields, and what goes out."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ..inference.answer_options import AnswerOptions
from ..inference.answerer import Answer
from .conversations import Fields, Role, Temperature, Tokens, TopP, answer_options, only
from .errors import RequestError


class _ImageUrl(Fields):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class _ImagePart(Fields):
    type: Literal["image_url"]
    image_url: _ImageUrl


class _TextPart(Fields):
    type: Literal["text"]
    text: str


_Part = Annotated[_ImagePart | _TextPart, Field(discriminator="type")]


class _Message(Fields):
    role: Role
    content: str | list[_Part]
    name: str | None = None
    refusal: only() = None  # type: ignore[valid-type]
    tool_calls: only([]) = None  # type: ignore[valid-type]
    function_call: only() = None  # type: ignore[valid-type]
    audio: only() = None  # type: ignore[valid-type]
    annotations: only([]) = None  # type: ignore[valid-type]


class _Schema(Fields):
    name: str
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class _PlainFormat(Fields):
    type: Literal["text"]


class _SchemaFormat(Fields):
    type: Literal["json_schema"]
    json_schema: _Schema


class _StreamOptions(Fields):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatRequest(Fields):
    """A request for a chat completion."""

    model: str
    messages: list[_Message] = Field(min_length=1)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    response_format: Annotated[_PlainFormat | _SchemaFormat, Field(discriminator="type")] | None = None
    # Only for the client's own records.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: only(False) = None  # type: ignore[valid-type]
    n: only(1) = None  # type: ignore[valid-type]
    logprobs: only(False) = None  # type: ignore[valid-type]
    top_logprobs: only(0) = None  # type: ignore[valid-type]
    logit_bias: only({}) = None  # type: ignore[valid-type]
    frequency_penalty: only(0, 0.0) = None  # type: ignore[valid-type]
    presence_penalty: only(0, 0.0) = None  # type: ignore[valid-type]
    modalities: only(["text"]) = None  # type: ignore[valid-type]
    tools: only([]) = None  # type: ignore[valid-type]
    tool_choice: only("none", "auto") = None  # type: ignore[valid-type]
    parallel_tool_calls: only(True, False) = None  # type: ignore[valid-type]
    service_tier: only("auto", "default") = None  # type: ignore[valid-type]

    def options(self, default_tokens: int) -> AnswerOptions:
        return answer_options(
            default_tokens,
            max_new_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            schema=self.response_format.json_schema.json_schema
            if isinstance(self.response_format, _SchemaFormat)
            else None,
        )

    def contents(self) -> list[tuple[Role, str | list[dict[str, str]]]]:
        """Roles and contents, as `to_conversation` takes them."""
        return [
            (each.role, each.content if isinstance(each.content, str) else [_plain(part) for part in each.content])
            for each in self.messages
        ]

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def _plain(part: _ImagePart | _TextPart) -> dict[str, str]:
    return {"image": part.image_url.url} if isinstance(part, _ImagePart) else {"text": part.text}


def usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": answer.prompt_tokens + answer.tokens,
    }


def completion(answer: Answer, request_id: str, created: int, model: str) -> dict[str, Any]:
    """A whole answer."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage(answer),
    }


async def chunks(
    running: AsyncIterator[str | Answer], request: ChatRequest, request_id: str, created: int, model: str
) -> AsyncIterator[str]:
    """An answer as server-sent events, token by token; an error on the way is the last of them."""
    head = {"id": f"chatcmpl-{request_id}", "object": "chat.completion.chunk", "created": created, "model": model}

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return _event({**head, "choices": [choice], **({"usage": None} if request.wants_usage else {})})

    yield chunk({"role": "assistant", "content": ""})
    try:
        async for piece in running:
            if isinstance(piece, str):
                yield chunk({"content": piece})
                continue
            yield chunk({}, piece.finish_reason)
            if request.wants_usage:
                yield _event({**head, "choices": [], "usage": usage(piece)})
    except RequestError as error:
        yield _event(error.body())
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
