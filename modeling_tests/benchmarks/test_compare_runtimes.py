"""What exports cost, and how fast they run: of the bundled checkpoint, in one way of each kind."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import compare_runtimes
import tables
from transformers_fastvlm.inference.model_options import bundled_checkpoint

pytest.importorskip("openvino", reason="runtimes are compared with the extras `export` and `inference`")
pytest.importorskip("nncf", reason="runtimes are compared with the extras `export` and `inference`")


def run(*arguments: str):
    app = typer.Typer()
    app.command()(compare_runtimes.main)
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_an_export_is_made_and_measured(tmp_path):
    path = tmp_path / "runtimes.json"
    sizes = ("--resolutions", "128,192", "--new-tokens", "3", "--repetitions", "1", "--threads", "1")
    result = run("--model", bundled_checkpoint(), "--ways", "openvino-int8", *sizes, "--json", str(path))
    assert result.exit_code == 0, result.output
    results = json.loads(path.read_text())["results"]
    assert [(point["way"], point["resolution"]) for point in results["points"]] == [
        ("openvino-int8", 128),
        ("openvino-int8", 192),
    ]
    made = results["exports"]["openvino-int8"]
    assert made["size"] > 5e6
    assert made["peak_memory"] > 1e8
    assert "| openvino-int8 |" in tables.markdown(path)


def test_pytorch_is_measured_as_exports_are():
    runner = compare_runtimes.Runner("pytorch", Path(bundled_checkpoint()), 1)
    first, rest = runner.measure(128, 3, 2)
    assert len(first) == len(rest) == 2
    assert all(seconds > 0 for seconds in first)


def test_unknown_ways_are_named():
    assert "Unknown way 'tflite'" in str(run("--ways", "tflite").exception)
