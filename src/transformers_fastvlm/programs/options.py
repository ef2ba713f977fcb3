# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A command's options out of the dataclass that they fill, where their types, defaults and descriptions are."""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature, cleandoc, signature
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape

_Config = TypeVar("_Config")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_options_of(config: type, argument: str | None = None) -> Callable[[_Function], _Function]:
    """
    Give a Typer command, in place of its `**options`, an option for each field of a dataclass.

    A field of several values is an option in the singular, which may be repeated, and one that is false by default a
    switch. Help is what the `Args:` of the dataclass's docstring say.

    Args:
        argument: the field that is given by its position.
    """
    descriptions, hints = _descriptions(config), get_type_hints(config)

    def parameter(field: Field) -> Parameter:
        kind, is_argument = hints[field.name], field.name == argument
        help_text = escape(descriptions[field.name])
        information = typer.Argument(help=help_text) if is_argument else _option(field, kind, help_text)
        default = Parameter.empty if field.default is MISSING else field.default
        if isinstance(default, tuple):
            default = list(default)
        annotation = Annotated[_typer_type(kind), information]
        return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def with_options(command: _Function) -> _Function:
        own = [each for each in signature(command).parameters.values() if each.kind != Parameter.VAR_KEYWORD]
        own = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own]
        parameters = [*map(parameter, fields(config)), *own]
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return with_options


def filled(config: type[_Config], options: Mapping[str, Any]) -> _Config:
    """The dataclass with what a command got for its options."""
    return config(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})


def _option(field: Field, kind: Any, help_text: str) -> Any:
    name = field.name.replace("_", "-")
    if get_origin(kind) is tuple:
        return typer.Option(f"--{name.removesuffix('s')}", help=help_text)
    return typer.Option(f"--{name}", help=help_text) if field.default is False else typer.Option(help=help_text)


def _typer_type(kind: Any) -> Any:
    """What Typer takes for a field's type: lists for tuples of any length, and texts for one of several texts."""
    if get_origin(kind) is tuple:
        return list[get_args(kind)[0]]  # type: ignore[misc]
    if get_origin(kind) is Literal:
        return str
    chosen = [each for each in get_args(kind) if each is not NoneType]
    if NoneType in get_args(kind) and len(chosen) == 1:
        return _typer_type(chosen[0]) | None
    return kind


def _descriptions(config: type) -> dict[str, str]:
    """What a docstring says of each argument, in one line."""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)*)", cleandoc(config.__doc__ or ""), re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
