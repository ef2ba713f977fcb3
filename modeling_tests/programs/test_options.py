# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A command's options are the fields of the dataclass that they fill, and cannot say anything else than it does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from transformers_fastvlm.programs.options import filled, with_options_of


@dataclass(frozen=True)
class Recipe:
    """
    What is cooked.

    Args:
        dish: Its name, which goes on
            over two lines: both are help.
        servings: How many. [default: the family's]
        spices: To taste; repeatable.
        heat: low or high.
        sharp: Add chili.
        salt: Add salt.
        book: Where it stands.

    Raises:
        ValueError: never.
    """

    dish: str
    servings: int | None = None
    spices: tuple[str, ...] = ("pepper",)
    heat: Literal["low", "high"] | None = None
    sharp: bool = False
    salt: bool = True
    book: Path | None = None


@pytest.fixture
def app():
    app = typer.Typer()

    @app.command()
    @with_options_of(Recipe, argument="dish")
    def cook(loud: Annotated[bool, typer.Option("--loud", help="Sing.")] = False, **options: Any) -> None:
        print(filled(Recipe, options), loud)

    return app


def run(app, *arguments):
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_defaults_are_the_dataclass_s(app):
    assert run(app, "soup").output.strip() == f"{Recipe('soup')} False"


def test_every_kind_of_option(app):
    words = "soup --servings 3 --spice salt --spice thyme --heat low --sharp --no-salt --book a.txt --loud"
    expected = Recipe("soup", 3, ("salt", "thyme"), "low", True, False, Path("a.txt"))
    assert run(app, *words.split()).output.strip() == f"{expected} True"


def test_help_is_the_docstring_s(app):
    text = run(app, "--help").output
    for part in ("Its name, which goes on over two lines: both are help.", "[default: the family's]", "Sing."):
        assert part in text
    assert "--no-sharp" not in text and "--no-salt" in text
    assert "never" not in text


def test_mistakes(app):
    assert run(app, "soup", "--servings", "many").exit_code == 2
    assert run(app).exit_code == 2


def test_a_field_without_a_description_is_noticed():
    @dataclass
    class Silent:
        """Args: none."""

        dish: str

    with pytest.raises(KeyError, match="dish"):
        with_options_of(Silent)(lambda **options: None)
