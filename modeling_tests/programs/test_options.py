"""Options of commands out of the dataclasses that they fill."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from transformers_fastvlm.programs.options import filled, with_options_of


@dataclass(frozen=True)
class Source:
    """
    Where it comes from.

    Args:
        path: Where it is,
            on disk.
        kind: What it is.
        quick: Do it quickly.
        checked: Look at it first.
    """

    path: str = field(metadata={"option": "--source"})
    kind: Literal["large", "small"] = "small"
    quick: bool = False
    checked: bool = True


@dataclass(frozen=True)
class Settings:
    """
    What to do.

    Args:
        source: Of what.
        sizes: How large. [default is two sizes]
        names: How called.
        count: How many.
        limit: No more than that.
        made_by: Who.

    Raises:
        ValueError: never.
    """

    source: Source = field(metadata={"option": False})
    sizes: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] = ()
    count: int = field(default=3, metadata={"min": 1})
    limit: float | None = None
    made_by: str = field(default="", metadata={"option": False})


def run(*arguments: str, commas: bool = True) -> tuple[list[Settings], Any]:
    app, seen = typer.Typer(), []

    @app.command()
    @with_options_of(Source)
    @with_options_of(Settings, commas=commas)
    def command(loud: bool = False, **options: Any) -> None:
        seen.append(filled(Settings, options, source=filled(Source, options), made_by=f"me, {loud}"))

    return seen, CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_defaults_are_the_dataclasses():
    (settings,), _ = run("--source", "here")
    assert settings == Settings(Source("here"), made_by="me, False")


def test_every_option_reaches_its_dataclass():
    (settings,), _ = run(
        *(
            "--source",
            "here",
            "--kind",
            "large",
            "--quick",
            "--no-checked",
            "--sizes",
            "3, 4",
            "--names",
            "a,b",
            "--count",
            "5",
        ),
        *("--limit", "0.5", "--loud"),
    )
    source = Source("here", "large", True, False)
    assert settings == Settings(source, (3, 4), ("a", "b"), 5, 0.5, "me, True")


def test_several_values_may_be_repeated_options():
    (settings,), _ = run("--source", "here", "--size", "3", "--size", "4", "--name", "a", commas=False)
    assert (settings.sizes, settings.names) == ((3, 4), ("a",))


def test_help_is_what_the_docstrings_say():
    _, done = run("--help")
    for text in ("Where it is, on disk.", "How large. [default is two sizes]", "[default: 1,2]", "Do it quickly."):
        assert text in done.output
    for option in ("--source ", "--quick ", "--made-by", "--no-quick", "--no-checked "):
        assert (option in done.output) == option.endswith(" ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--source'"),
        (["--source", "x", "--count", "0"], "--count"),
        (["--source", "x", "--sizes", "small"], "'small' is not a comma-separated list of whole numbers"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    seen, done = run(*arguments)
    assert (seen, done.exit_code) == ([], 2)
    assert message in done.stderr


@dataclass(frozen=True)
class Recipe:
    """
    What is cooked.

    Args:
        dish: Its name.
        heat: low or high.
        book: Where it stands.
    """

    dish: str
    heat: Literal["low", "high"] | None = None
    book: Path | None = None


def test_one_field_may_be_given_by_its_position():
    app, seen = typer.Typer(), []

    @app.command()
    @with_options_of(Recipe, argument="dish")
    def cook(**options: Any) -> None:
        seen.append(filled(Recipe, options))

    assert CliRunner().invoke(app, ["soup"]).exit_code == 0
    assert CliRunner().invoke(app, ["--heat", "low", "soup", "--book", "a.txt"]).exit_code == 0
    assert seen == [Recipe("soup"), Recipe("soup", "low", Path("a.txt"))]
    assert CliRunner().invoke(app, []).exit_code == 2


def test_a_field_without_a_description_is_noticed():
    @dataclass
    class Silent:
        """Args: none."""

        dish: str

    with pytest.raises(KeyError, match="dish"):
        with_options_of(Silent)(lambda **options: None)


def test_help_may_be_in_the_fields_metadata():
    @dataclass
    class Named:
        name: str = field(default="x", metadata={"help": "how it is called"})

    app = typer.Typer()
    app.command()(with_options_of(Named)(lambda **options: None))
    assert "how it is called" in CliRunner().invoke(app, ["--help"]).output


def test_a_command_may_have_its_own_default_for_a_field_that_has_none():
    app, seen = typer.Typer(), []

    @app.command()
    @with_options_of(Recipe, optional=["dish"])
    def cook(**options: Any) -> None:
        seen.append(filled(Recipe, {**options, "dish": options["dish"] or "bread"}))

    assert CliRunner().invoke(app, []).exit_code == 0
    assert CliRunner().invoke(app, ["--dish", "soup"]).exit_code == 0
    assert seen == [Recipe("bread"), Recipe("soup")]
