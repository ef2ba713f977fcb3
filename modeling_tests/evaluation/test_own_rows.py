"""`fastvlm evaluate --data`: rows of one's own, scored without a task's definition."""

import json

import pytest
from typer.testing import CliRunner

from chat_rows import picture
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.cli import app
from transformers_fastvlm.evaluation import RowEvaluationConfig, evaluate_rows
from transformers_fastvlm.evaluation.row_scores import row_score
from transformers_fastvlm.inference.model_options import ModelOptions
from transformers_fastvlm.training import RowAnswer, RowError

for library in ("accelerate.utils", "datasets", "evaluate", "rapidfuzz"):
    pytest.importorskip(library, reason=f"evaluation needs {library} (the `evaluation` extra)")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def rows(tmp_path):
    picture().save(tmp_path / "it.png")
    lines = [{"question": f"What is {index}?", "answers": ["A cat", "cat"], "image": "it.png"} for index in range(3)]
    lines.append({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "rows.jsonl"


def config(checkpoint, rows, **options) -> RowEvaluationConfig:
    given = {"output": rows.with_name("results.json"), "max_new_tokens": 3} | options
    return RowEvaluationConfig(ModelOptions(str(checkpoint)), str(rows), **given)


def test_answers_and_scores_are_written(checkpoint, rows):
    results = evaluate_rows(config(checkpoint, rows, metric="anls", batch_size=2))
    (row,) = results["results"]
    assert (row["task"], row["metric"], row["samples"], row["unreadable"]) == ("rows", "anls", 4, 0)
    assert json.loads(rows.with_name("results.json").read_text())["results"] == [row]
    samples = [json.loads(line) for line in rows.with_name("results.samples.jsonl").read_text().splitlines()]
    assert [sample["document"] for sample in samples] == ["line 1", "line 2", "line 3", "line 4"]
    assert samples[0]["target"] == ["A cat", "cat"]
    mean = sum(sample["scores"]["anls"] for sample in samples) / 4
    assert row["value"] == pytest.approx(100 * mean, abs=0.01)


def test_batches_do_not_change_answers(checkpoint, rows):
    found = []
    for size in (1, 3):
        evaluate_rows(config(checkpoint, rows, batch_size=size))
        found.append(rows.with_name("results.samples.jsonl").read_text())
    assert found[0] == found[1]


def test_faulty_rows_stop_it_or_are_counted(checkpoint, rows):
    rows.write_text(rows.read_text() + "\nnonsense\n")
    with pytest.raises(RowError, match="Line 5"):
        evaluate_rows(config(checkpoint, rows))
    (row,) = evaluate_rows(config(checkpoint, rows, faulty_rows="skip", limit=5))["results"]
    assert (row["samples"], row["unreadable"]) == (4, 1)


def test_the_command(checkpoint, rows):
    options = ["--model", checkpoint, "--data", rows, "--metric", "vqa_accuracy", "--max-new-tokens", "2"]
    options += ["--output", rows.with_name("out.json"), "--limit", "2"]
    done = CliRunner().invoke(app, ["evaluate", *map(str, options)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "VQA accuracy" in done.output
    both = CliRunner().invoke(app, ["evaluate", *map(str, options), "--tasks", "x"])
    assert both.exit_code == 2


def answer(text: str, *truths: str) -> RowAnswer:
    return RowAnswer("row 0", "What?", truths, text)


def test_scores_of_rows():
    assert row_score("exact_match")([answer("cat", "cat", "dog"), answer("dog", "cat", "dog")]) == 0.5
    assert row_score("anls")([answer("dog", "cat", "dog")]) == 1.0
    assert row_score("relaxed_accuracy")([answer("10.1", "10")]) == 1.0
    assert row_score("vqa_accuracy")([answer("cat", "cat")]) == 1.0  # one answer stands for all people
    assert row_score("vqa_accuracy")([answer("cat", *["cat"] * 2, *["dog"] * 8)]) == pytest.approx(0.6)
