"""The `fastvlm` command: what arguments become, what is printed, exit codes. The full-size encoder is never built."""

import dataclasses
import json

import pytest
from transformers import AutoModel
from typer.testing import CliRunner

from tiny_models import tiny_vision_config
from transformers_fastvlm.benchmark import encoder
from transformers_fastvlm.cli import app

QUICK = ["bench", "encoder", "--resolutions", "64", "--dtypes", "float32", "--repetitions", "2", "--warmup", "0"]


@pytest.fixture(autouse=True)
def tiny_encoders(monkeypatch):
    """Tiny encoders in place of the full-size ones, upstream's among them, so that no library decides the outcome."""
    random_model = encoder.random_model
    monkeypatch.setattr(encoder, "random_model", lambda config, dtype: random_model(tiny_vision_config(), dtype))
    set_upstream(
        monkeypatch, requires=(), build=lambda ours: AutoModel.from_config(ours.config, dtype=ours.dtype).eval()
    )


def set_upstream(monkeypatch, **changes):
    monkeypatch.setitem(encoder.PEERS, "upstream", dataclasses.replace(encoder.PEERS["upstream"], **changes))


def run(*arguments: str):
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_help_names_the_commands():
    commands = run("--help").output
    assert "bench" in commands and "publish" in commands
    assert "encoder" in run("bench", "--help").output
    options = run("bench", "encoder", "--help").output
    for option in ("--resolutions", "--dtypes", "--batch-size", "--threads", "--device", "--json", "--check"):
        assert option in options


def test_prints_a_table_and_writes_json(tmp_path):
    result = run(*QUICK, "--threads", "1", "--json", str(tmp_path / "result.json"))
    assert result.exit_code == 0, result.output
    assert "× ours" in result.stdout
    rows = [line.split("|") for line in result.stdout.splitlines() if line.startswith("|") and "64²" in line]
    assert [row[3].strip() for row in rows] == ["ours", "upstream"]
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["machine"]["threads"] == 1
    assert written["config"]["peers"] == ["upstream"]
    assert [len(timing["seconds"]) for timing in written["points"][0]["timings"].values()] == [2, 2]


def test_ours_alone():
    result = run(*QUICK, "--peers", "none")
    assert result.exit_code == 0, result.output
    assert "upstream" not in result.stdout


def test_without_the_peers_library_ours_is_timed_and_the_extra_named(monkeypatch):
    set_upstream(monkeypatch, requires=("no_such_module",))
    result = run(*QUICK)
    assert result.exit_code == 0, result.output
    assert "64²" in result.stdout
    assert "| ours" in result.stdout
    assert "| upstream" not in result.stdout
    assert "pip install 'transformers-fastvlm[bench]'" in result.stderr


@pytest.mark.parametrize("asked", [["--peers", "upstream"], ["--check"]])
def test_asking_for_a_peer_that_is_missing_fails_at_once(monkeypatch, asked):
    set_upstream(monkeypatch, requires=("no_such_module",))
    result = run(*QUICK, *asked)
    assert result.exit_code == 2
    assert "pip install 'transformers-fastvlm[bench]'" in result.stderr
    assert "64²" not in result.stdout


@pytest.mark.parametrize(("ratio", "exit_code"), [(0.9, 1), (1.1, 0)])
def test_check_fails_where_ours_is_slower(monkeypatch, ratio, exit_code):
    def latencies(calls, repetitions, warmup, device):
        return {name: (1.0 if name == "ours" else ratio,) * repetitions for name in calls}

    monkeypatch.setattr(encoder, "interleaved_latencies", latencies)
    result = run(*QUICK, "--check")
    assert result.exit_code == exit_code, result.output
    assert ("64² float32: 0.90 × upstream" in result.stderr) == (exit_code == 1)
    assert run(*QUICK).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolutions", "100"], "multiples of 64"),
        (["--resolutions", "small"], "'small' is not a comma-separated list of whole numbers"),
        (["--dtypes", "int4"], "Unknown dtype 'int4'"),
        (["--peers", "onnx"], "Unknown peer 'onnx'"),
        (["--device", "abacus"], "'abacus' cannot be used"),
        (["--check", "--peers", "none"], "needs one in --peers"),
        (["--json", "no/such/folder/result.json"], "no folder"),
        (["--repetitions", "0"], "repetitions"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    result = run(*QUICK, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
