"""`fastvlm evaluate` and `fastvlm report`: what arguments become, what is printed, exit codes."""

import json

import pytest
from typer.testing import CliRunner

for library in ("lmms_eval", "matplotlib"):
    pytest.importorskip(library, reason=f"the commands need {library} (the `evaluation` extra)")

from evaluating import BUNDLED, TASKS

from transformers_fastvlm import extras
from transformers_fastvlm.cli import app
from transformers_fastvlm.evaluation import runner


def run(*arguments: object):
    words = list(map(str, arguments))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["fastvlm", *words])  # which the results repeat
        return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, words)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    output = run(
        *("evaluate", "--model", BUNDLED, "--tasks", "tiny_colours, tiny_digits", "--include-path", TASKS),
        *("--limit", 6, "--batch-size", 3),
        *("--output", folder / "results.json", "--pictures", folder / "pictures"),
    )
    assert output.exit_code == 0, output.output
    return folder, output


def test_it_prints_a_table_and_writes_everything(results):
    folder, output = results
    assert "| Tiny colours" in output.stdout
    assert "Wrote" in output.stderr
    assert (folder / "pictures" / "scores.png").stat().st_size > 5000
    written = json.loads((folder / "results.json").read_text())
    assert [row["samples"] for row in written["results"]] == [6, 6]
    assert written["settings"]["batch_size"] == 3
    assert written["command"].startswith(f"fastvlm evaluate --model {BUNDLED} --tasks 'tiny_colours, tiny_digits'")


def test_every_option_reaches_the_run(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(runner, "run_evaluation", lambda config: seen.append(config))
    options = ["--load-in-4bit", "--adapter", "A", "--resolution", 512, "--dtype", "bfloat16", "--static-cache"]
    options += ["--compile", "--limit", 7, "--batch-size", 2, "--device", "cpu", "--include-path", tmp_path]
    assert run("evaluate", "--model", "M", "--tasks", "a,b", *options).exit_code == 0
    (config,) = seen
    assert vars(config.model) == {
        "pretrained": "M",
        "adapter": "A",
        "quantization": "nf4",
        "dtype": "bfloat16",
        "resolution": 512,
        "static_cache": True,
        "compiled": True,
    }
    assert (config.tasks, config.limit, config.batch_size) == (("a", "b"), 7, 2)
    assert (config.device, config.include_path) == ("cpu", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", ","], "Name at least one task"),
        (["--tasks", "tiny_colours", "--dtype", "int4"], "Unknown dtype 'int4'"),
        (["--tasks", "tiny_colours", "--quantization", "int2"], "Unknown scheme 'int2'"),
        (["--tasks", "tiny_colours", "--limit", "0"], "at least 1"),
        (["--tasks", "tiny_colours", "--output", "no/such/folder/results.json"], "--output: there is no folder"),
        (["--tasks", "tiny_colours", "--model", "no/such-model"], "no/such-model"),
    ],
)
def test_bad_arguments_are_named(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("evaluate", "--model", BUNDLED, "--include-path", TASKS, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_harness_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    result = run("evaluate", "--model", BUNDLED, "--tasks", "tiny_colours")
    assert result.exit_code == 2
    assert "pip install 'transformers-fastvlm[evaluation]'" in result.stderr


def test_report_fails_where_a_score_has_fallen(results, tmp_path):
    folder, _ = results
    path = folder / "results.json"
    assert run("report", path, "--baseline", path).exit_code == 0
    better = json.loads(path.read_text())
    better["results"][0]["value"] += 3
    (tmp_path / "better.json").write_text(json.dumps(better))
    fallen = run("report", path, "--baseline", tmp_path / "better.json", "--tolerance", 2)
    assert fallen.exit_code == 1
    assert "Fallen by more than 2.0 points:\ntiny_colours, exact_match" in fallen.stderr
    assert run("report", path, "--baseline", tmp_path / "better.json", "--tolerance", 3.5).exit_code == 0


def test_report_draws_several(results, tmp_path):
    folder, _ = results
    done = run("report", folder / "results.json", folder / "results.json", "--pictures", tmp_path)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["score-over-ttft.png", "scores-1.png", "scores-2.png"]


def test_report_of_another_file_says_so(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    result = run("report", tmp_path / "x.json")
    assert result.exit_code == 2
    assert "has no results of `fastvlm evaluate`" in result.stderr
