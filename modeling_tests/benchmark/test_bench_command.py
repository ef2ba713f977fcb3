"""`fastvlm bench`: what arguments become, what is printed, exit codes. The full-size encoder is never built."""

import json

import pytest
from typer.testing import CliRunner

from tiny_models import tiny_vision_config, write_tiny_checkpoint
from transformers_fastvlm.benchmark import encoder_latency
from transformers_fastvlm.benchmark.encoder_subjects import ENCODER_WAYS, EncoderSubject
from transformers_fastvlm.cli import app

QUICK = ["bench", "encoder", "--resolutions", "64", "--dtypes", "float32", "--repetitions", "2", "--warmup", "0"]


@pytest.fixture(autouse=True)
def tiny_encoders(monkeypatch):
    """Tiny encoders in place of the full-size ones."""
    random_model = encoder_latency.random_model
    monkeypatch.setattr(
        encoder_latency, "random_model", lambda config, dtype: random_model(tiny_vision_config(), dtype)
    )


@pytest.fixture
def twin(monkeypatch):
    """A way that is ours once more, and needs nothing installed."""
    monkeypatch.setitem(ENCODER_WAYS, "twin", EncoderSubject("twin", lambda ours: ours))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


def run(*arguments: str):
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_help_names_the_commands_and_options():
    assert "bench" in run("--help").output
    assert "encoder" in run("bench", "--help").output
    options = run("bench", "encoder", "--help").output
    for option in (
        "--model",
        "--resolutions",
        "--dtypes",
        "--batch-size",
        "--threads",
        "--device",
        "--ways",
        "--json",
    ):
        assert option in options
    assert "--model" in options
    assert "--ways" in options
    assert "--peers" not in options
    assert "Sides of the square images, pixels. [default: 256,512,1024]" in options
    assert run("bench").output == run("bench", "--help").output


def test_prints_a_table_and_writes_json(twin, tmp_path):
    result = run(*QUICK, "--threads", "1", "--ways", "twin", "--json", str(tmp_path / "result.json"))
    assert result.exit_code == 0, result.output
    assert "× ours" in result.stdout
    rows = [line.split("|") for line in result.stdout.splitlines() if line.startswith("|") and "64²" in line]
    assert [row[3].strip() for row in rows] == ["ours", "twin"]
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["machine"]["threads"] == 1
    assert written["results"]["config"]["ways"] == ["twin"]
    (point,) = written["results"]["points"]
    assert [len(timing["seconds"]) for timing in point["timings"].values()] == [2, 2]


def test_ours_alone():
    result = run(*QUICK)
    assert result.exit_code == 0, result.output
    assert "| ours" in result.stdout


def test_the_encoder_of_a_checkpoint(folder, monkeypatch):
    monkeypatch.delattr(encoder_latency, "random_model")
    result = run(*QUICK, "--model", folder)
    assert result.exit_code == 0, result.output
    assert "| ours" in result.stdout


def test_a_missing_library_fails_at_once(monkeypatch):
    absent = EncoderSubject("twin", lambda ours: ours, requires=("no_such_module",), extra="bench")
    monkeypatch.setitem(ENCODER_WAYS, "twin", absent)
    result = run(*QUICK, "--ways", "twin")
    assert result.exit_code == 2
    assert "pip install 'transformers-fastvlm[bench]'" in result.stderr
    assert "64²" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolutions", "100"], "multiples of 64"),
        (["--resolutions", "small"], "'small' is not a comma-separated list of whole numbers"),
        (["--dtypes", "int4"], "Unknown dtype 'int4'"),
        (["--ways", "onnx"], "Unknown way 'onnx'"),
        (["--device", "abacus"], "'abacus' cannot be used"),
        (["--json", "no/such/folder/result.json"], "no folder"),
        (["--repetitions", "0"], "repetitions"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    result = run(*QUICK, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_first_tokens(folder, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib (the `bench` extra)")
    options = ["--model", folder, "--resolutions", "64,128", "--repetitions", "1", "--warmup", "0"]
    options += ["--dtype", "float32", "--json", str(tmp_path / "result.json")]
    options += ["--pictures", str(tmp_path / "pictures")]
    result = run("bench", "ttft", *options)
    assert result.exit_code == 0, result.output
    assert f"Ours: {folder}" in result.stdout.replace("\n", "")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["ttft-stages.png"]
    written = json.loads((tmp_path / "result.json").read_text())
    assert len(written["results"]["points"]) == 2
    result = run("bench", "ttft", "--resolutions", "100")
    assert result.exit_code == 2
    assert "multiples of 64" in result.output
