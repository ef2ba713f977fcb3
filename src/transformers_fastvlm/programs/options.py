# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A command's options out of the dataclass that they fill, where their types, defaults and descriptions are."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature, cleandoc, signature
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from rich.markup import escape

from .commands import integers_in, names_in

_Config = TypeVar("_Config")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_options_of(
    config: type,
    argument: str | None = None,
    commas: bool = False,
    optional: Collection[str] = (),
    without: Collection[str] = (),
) -> Callable[[_Function], _Function]:
    """
    Give a Typer command, in place of its `**options`, an option for each field of a dataclass.

    A field of several values is an option in the singular, which may be repeated, and one that is false by default a
    switch. Help is what the `Args:` of the dataclass's docstring say, or `"help"` in a field's metadata.
    That may also have `"min"`, the least number that the option takes, and `"option"`, its name where it is not the
    field's, `False` where there is to be none. Those of several dataclasses can be given, one around the other.

    Args:
        argument: the field that is given by its position.
        commas: several values are one option instead, with commas between them.
        optional: fields without a default that the command has one for: it gets `None` where they are not given.
        without: fields that the command has no option for.
    """
    helped = {field.name: field.metadata["help"] for field in fields(config) if "help" in field.metadata}
    descriptions = helped | _descriptions(config)
    chosen = [field for field in fields(config) if field.metadata.get("option", True) and field.name not in without]

    def parameter(field: Field) -> Parameter:
        kind, is_argument = field.type, field.name == argument
        if commas and get_origin(kind) is tuple:
            kind = str
        if field.name in optional:
            kind = kind | None  # type: ignore[operator]
        help_text = escape(descriptions[field.name])
        without = None if field.name in optional else Parameter.empty
        default = without if field.default is MISSING else field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default)) if commas else list(default)
        information = typer.Argument(help=help_text) if is_argument else _option(field, kind, help_text)
        annotation: Any = Annotated[_typer_type(kind), information]
        return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def with_options(command: _Function) -> _Function:
        own = [each for each in signature(command).parameters.values() if each.kind != Parameter.VAR_KEYWORD]
        own = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own]
        parameters = [*map(parameter, chosen), *own]
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return with_options


def filled(config: type[_Config], options: Mapping[str, Any], **others: Any) -> _Config:
    """
    The dataclass with what a command got for its options.

    Args:
        options: by name; may have those of other dataclasses, too.
        **others: values of fields that are no options.

    Raises:
        typer.BadParameter: if there is anything but whole numbers where those are to be, between commas.
    """
    kinds = {field.name: field.type for field in fields(config)}  # type: ignore[arg-type]
    given = {name: _from_shell(kinds[name], value) for name, value in options.items() if name in kinds}
    return config(**given, **others)


def _from_shell(kind: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and get_origin(kind) is tuple:
        return integers_in(value) if get_args(kind)[0] is int else names_in(value)
    return value


def _option(field: Field, kind: Any, help_text: str) -> Any:
    name = f"--{field.name.replace('_', '-')}"
    names: tuple[str, ...] = ()  # Typer's own, with which a switch can be turned off, too
    if "option" in field.metadata:
        names = (field.metadata["option"],)
    elif get_origin(kind) is tuple:
        names = (name.removesuffix("s"),)
    elif field.default is False:
        names = (name,)
    return typer.Option(*names, help=help_text, min=field.metadata.get("min"))


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
