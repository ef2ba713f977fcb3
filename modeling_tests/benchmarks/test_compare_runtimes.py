"""What exports cost, and how fast they run: of the bundled checkpoint, in one way of each kind."""

import json

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


def test_an_export_is_measured_beside_pytorch(tmp_path):
    path = tmp_path / "runtimes.json"
    sizes = ("--resolutions", "128,192", "--new-tokens", "3", "--repetitions", "1", "--threads", "1")
    result = run("--model", bundled_checkpoint(), "--ways", "pytorch,openvino-int8", *sizes, "--json", str(path))
    assert result.exit_code == 0, result.output
    results = json.loads(path.read_text())["results"]
    found = [(point["way"], point["resolution"]) for point in results["points"]]
    assert found == [("pytorch", 128), ("pytorch", 192), ("openvino-int8", 128), ("openvino-int8", 192)]
    made = results["exports"]["openvino-int8"]
    assert made["size"] > 5e6
    assert made["peak_memory"] > 1e8
    rows = [line for line in tables.markdown(path).splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:]] == ["pytorch", "openvino-int8"]


def test_unknown_ways_are_named():
    assert "Unknown way 'tflite'" in str(run("--ways", "tflite").exception)
