# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What requests of both kinds have in common: their fields, and their messages as the processor takes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..inference.answer_options import AnswerOptions
from .errors import RequestError
from .image_sources import ImageSources

_Request = TypeVar("_Request", bound="Fields")
Role = Literal["system", "developer", "user", "assistant"]


class Fields(BaseModel):
    """Fields of a request: those that are not known are refused, and what is of another type is not converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


def only(*neutral: Any) -> Any:
    """A field that changes nothing here, and is refused with values by which a client would want something."""

    def check(value: Any) -> Any:
        if value is not None and not any(value == each and type(value) is type(each) for each in neutral):
            raise ValueError("is not supported by this server")
        return value

    return Annotated[Any, AfterValidator(check)]


Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
Tokens = Annotated[int, Field(ge=1)]


def parsed(kind: type[_Request], body: Any) -> _Request:
    """
    Raises:
        RequestError: if the body is not of that kind, naming the first field that is wrong.
    """
    if not isinstance(body, dict):
        raise RequestError("The request must be a JSON object.")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = _most_telling(error.errors(include_url=False, include_context=False, include_input=False))
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        what = "is not known to this server" if first["type"] == "extra_forbidden" else what
        raise RequestError(f"`{where}`: {what}." if where else f"{what}.", param=where or None) from None


def _most_telling(errors: Sequence[Any]) -> Any:
    """Of a field that may be one of several kinds, all are complained of: what is meant is what fits deepest."""
    return max(errors, key=lambda error: (len(error["loc"]), error["type"] != "extra_forbidden"))


def answer_options(default_tokens: int, **given: Any) -> AnswerOptions:
    """The options of a request, of which those that are `None` are the server's."""
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return AnswerOptions(**{"max_new_tokens": default_tokens, **chosen})
    except ValueError as error:
        raise RequestError(str(error)) from error


def to_conversation(
    messages: Iterable[tuple[Role, str | Sequence[Mapping[str, str]]]], sources: ImageSources, most_images: int
) -> list[dict[str, Any]]:
    """
    Messages with the images that they name.

    Args:
        messages: roles, and contents: a text, or parts `{"text": text}` and `{"image": address}`.

    Raises:
        RequestError: if an image cannot be had, or there are too many.
    """
    messages = list(messages)
    parts = [part for _, content in messages if not isinstance(content, str) for part in content]
    images = sum("image" in part for part in parts)
    if images > most_images:
        raise RequestError(f"The request has {images} images; this server takes {most_images}.")
    left = sources.most_pixels

    def part_of(part: Mapping[str, str]) -> dict[str, Any]:
        nonlocal left
        if "text" in part:
            return {"type": "text", "text": part["text"]}
        image = sources.read(part["image"], left)
        left -= image.width * image.height
        return {"type": "image", "image": image}

    return [
        {
            "role": "system" if role == "developer" else role,
            "content": content if isinstance(content, str) else [part_of(part) for part in content],
        }
        for role, content in messages
    ]
