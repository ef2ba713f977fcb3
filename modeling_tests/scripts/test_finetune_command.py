"""`fastvlm finetune`: what reaches the script, under either spelling of an option."""

import pytest
from typer.testing import CliRunner

from transformers_fastvlm.cli import app
from transformers_fastvlm.scripts import finetune_lora


@pytest.fixture
def given(monkeypatch):
    found = []
    monkeypatch.setattr(finetune_lora, "main", lambda arguments, command: found.extend(arguments))
    return found


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["finetune", *arguments], catch_exceptions=False)


def test_options_of_all_kinds_go_to_the_script(given):
    done = invoke(
        *("--model", "m", "--dataset", "d", "--eval_metric", "anls", "--eval-samples", "8", "--packing"),
        *("--learning_rate", "1e-3", "--report_to", "tensorboard", "trackio", "--recipe", "r.yaml", "--bf16"),
    )
    assert done.exit_code == 0
    ours = ["--recipe=r.yaml", "--model=m", "--eval_metric=anls", "--eval_samples=8", "--packing=True", "--dataset=d"]
    theirs = ["--learning_rate", "1e-3", "--report_to", "tensorboard", "trackio", "--bf16"]
    assert sorted(given[: len(ours)]) == sorted(ours)
    assert given[len(ours) :] == theirs


def test_nothing_that_was_not_given_overrides_a_recipe(given):
    invoke("--recipe", "r.yaml")
    assert given == ["--recipe=r.yaml"]


def test_help_names_what_there_is(given):
    done = CliRunner().invoke(app, ["finetune", "--help"], env={"COLUMNS": "160"})
    assert done.exit_code == 0
    for name in ("--method", "--cache-features", "--image-root", "--eval-metric", "TrainingArguments"):
        assert name in done.output
    assert given == []


def test_a_value_that_cannot_be_ends_in_one_line(given):
    done = CliRunner().invoke(app, ["finetune", "--rank", "x"])
    assert done.exit_code == 2
    assert given == []
