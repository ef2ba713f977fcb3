"""Options out of YAML files, below those of the command line."""

from dataclasses import dataclass, field

import pytest
from transformers import HfArgumentParser

from transformers_fastvlm.training.recipes import parse_with_recipe, read_recipe, with_recipe


@dataclass
class Options:
    model: str
    rate: float = 1.0
    names: list[str] = field(default_factory=list)
    settings: dict | str | None = None  # as `TrainingArguments` has some
    fast: bool = False
    note: str | None = None


def parsed(recipe: str | None, tmp_path, *arguments: str) -> Options:
    path = tmp_path / "recipe.yaml"
    if recipe is not None:
        path.write_text(recipe)
    (options,) = parse_with_recipe(HfArgumentParser(Options), path if recipe is not None else None, list(arguments))
    return options


def test_a_recipe_fills_what_the_command_line_leaves_open(tmp_path):
    recipe = "model: one\nrate: 2e-3\nnames: [a, b]\nsettings: {x: 1}\nfast: true\nnote: -dash\n"
    assert parsed(recipe, tmp_path) == Options("one", 2e-3, ["a", "b"], '{"x": 1}', True, "-dash")
    changed = parsed(recipe, tmp_path, "--rate", "3", "--names", "c", "--model", "two")
    assert (changed.rate, changed.names, changed.model, changed.fast) == (3.0, ["c"], "two", True)


def test_nothing_in_a_recipe_stays_at_its_default(tmp_path):
    assert parsed("model: one\nnote:\n", tmp_path).note is None
    assert parsed(None, tmp_path, "--model", "one") == Options("one")


def test_the_recipe_is_named_on_the_command_line(tmp_path):
    assert with_recipe(["--rate", "1", "--recipe", "r.yaml"])[1] == ["--rate", "1"]
    assert str(with_recipe(["--recipe=r.yaml"])[0]) == "r.yaml"
    assert with_recipe(["--rate", "1"]) == (None, ["--rate", "1"])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("model: one\nrat: 2", "there is no option 'rat'. Did you mean 'rate'"),
        ("- model", "must have options and their values"),
        ("model: [", "is no YAML"),
        ("1: 2", "must have options"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(recipe, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parsed(recipe, tmp_path)


def test_a_missing_recipe_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="--recipe: there is no file"):
        read_recipe(tmp_path / "none.yaml")
