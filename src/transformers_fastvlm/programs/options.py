# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A command's options out of the configuration that they fill, where each stands once, with its default and help."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import typer

from .commands import integers_in, names_in


def option(help: str, default: Any, least: int | None = None, otherwise: str | None = None) -> Any:
    """
    A field of a configuration that is an option of a command.

    Args:
        help: what it sets, in a line.
        default: of the field and the option.
        least: the smallest number that the option takes.
        otherwise: what a default of `None` means, in words.
    """
    return dataclasses.field(default=default, metadata={"help": help, "min": least, "show_default": otherwise or True})


def fills(configuration: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """
    Make a typer command of a function whose first argument is a configuration, a dataclass.

    The command has an option for each field that [`option`] made, the function's other arguments after them. A tuple
    is a comma-separated list in the shell.
    """
    fields = [each for each in dataclasses.fields(configuration) if "help" in each.metadata]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        _, *others = inspect.signature(function).parameters.values()
        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in others]

        def command(**values: Any) -> None:
            settings = {each.name: _value(each, values.pop(each.name)) for each in fields}
            function(configuration(**settings), **values)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        parameters = [*map(_parameter, fields), *own]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def _is_list(field: dataclasses.Field) -> bool:
    return get_origin(field.type) is tuple


def _value(field: dataclasses.Field, value: Any) -> Any:
    if not _is_list(field):
        return value
    return integers_in(value) if get_args(field.type)[0] is int else names_in(value)


def _parameter(field: dataclasses.Field) -> inspect.Parameter:
    settings = typer.Option(**field.metadata)
    kind, default = (str, ",".join(map(str, field.default))) if _is_list(field) else (field.type, field.default)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, settings]
    )
