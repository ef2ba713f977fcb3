# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Options out of a YAML file, below those of the command line, as TRL's scripts have them."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import HfArgumentParser

_OPTION = "--recipe"


def with_recipe(arguments: Iterable[str]) -> tuple[Path | None, list[str]]:
    """The file that a command line names in `--recipe`, and the others of its arguments."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument(_OPTION, type=Path)
    found, others = finder.parse_known_args(list(arguments))
    return found.recipe, others


def read_recipe(path: Path) -> dict[str, Any]:
    """
    The options of a recipe, by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no YAML, or not options with their values.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"{_OPTION}: there is no file {path}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{path} must have options and their values, such as `learning_rate: 1e-4`.")
    return values


def parse_with_recipe(parser: HfArgumentParser, recipe: Path | None, arguments: list[str]) -> tuple[Any, ...]:
    """
    The dataclasses of a parser, filled from a recipe and the arguments; these win.

    Raises:
        FileNotFoundError, ValueError: as `read_recipe` does; if the recipe has an option that the parser has not.
    """
    parser.epilog = f"{_OPTION} FILE has options in YAML; those of the command line win."
    given = [] if recipe is None else list(_as_arguments(parser, recipe))
    return parser.parse_args_into_dataclasses(args=[*given, *arguments])


def _as_arguments(parser: HfArgumentParser, recipe: Path) -> Iterator[str]:
    known = {option.removeprefix("--") for action in parser._actions for option in action.option_strings}
    for name, value in read_recipe(recipe).items():
        if name not in known:
            like = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {like[0]!r}?" if like else ""
            raise ValueError(f"{recipe}: there is no option {name!r}.{hint}")
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        # `--name=value`, since a value may begin with a dash.
        yield from [f"--{name}={_text(values[0])}"] if len(values) == 1 else [f"--{name}", *map(_text, values)]


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)
