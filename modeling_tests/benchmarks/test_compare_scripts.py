"""The scripts that compare ours with others: what arguments become, and exit codes. No full-size model is built."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import typer
from PIL import Image
from transformers import AutoModel
from typer.testing import CliRunner

import command_lines
import compare_encoders
import compare_first_token
import promised_ratios
import tables
from running_scripts import run_command
from tiny_models import tiny_config, tiny_vision_config, write_tiny_checkpoint
from transformers_fastvlm.benchmark import encoder_latency
from transformers_fastvlm.benchmark.vlm_subjects import OUR_VLM, VlmSubject, random_vlm
from transformers_fastvlm.extras import MissingLibraryError

BENCHMARKS = Path(command_lines.__file__).parent
QUICK = ("--resolutions", "64", "--dtypes", "float32", "--repetitions", "2", "--warmup", "0")


@pytest.fixture
def upstream(monkeypatch):
    """Tiny encoders in place of the full-size ones, upstream's among them, so that no library decides the outcome."""
    random_model = encoder_latency.random_model
    monkeypatch.setattr(
        encoder_latency, "random_model", lambda config, dtype: random_model(tiny_vision_config(), dtype)
    )
    change_upstream(
        monkeypatch, requires=(), build=lambda ours: AutoModel.from_config(ours.config, dtype=ours.dtype).eval()
    )


def change_upstream(monkeypatch, **changes):
    peers = compare_encoders.ENCODER_PEERS
    monkeypatch.setitem(peers, "upstream", replace(peers["upstream"], **changes))


def run(script, *arguments: str):
    app = typer.Typer()
    app.command()(script.main)
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_prints_a_table_and_writes_json(upstream, tmp_path):
    result = run(compare_encoders, *QUICK, "--threads", "1", "--json", str(tmp_path / "result.json"))
    assert result.exit_code == 0, result.output
    assert "× ours" in result.stdout
    rows = [line.split("|") for line in result.stdout.splitlines() if line.startswith("|") and "64²" in line]
    assert [row[3].strip() for row in rows] == ["ours", "upstream"]
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["machine"]["threads"] == 1
    assert written["results"]["config"]["peers"] == ["upstream"]
    (point,) = written["results"]["points"]
    assert [len(timing["seconds"]) for timing in point["timings"].values()] == [2, 2]


@pytest.mark.parametrize("script", [compare_encoders, compare_first_token])
def test_a_missing_library_fails_at_once(script, monkeypatch):
    change_upstream(monkeypatch, requires=("no_such_module",))
    vlms = compare_first_token.VLM_PEERS
    monkeypatch.setitem(vlms, "upstream", replace(vlms["upstream"], requires=("no_such_module",)))
    result = run(script, "--peers", "upstream")
    assert isinstance(result.exception, MissingLibraryError)
    assert "upstream needs no_such_module" in str(result.exception)
    assert "pip install 'transformers-fastvlm[dev]'" in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize(("ratio", "exit_code"), [(0.9, 1), (1.1, 0)])
def test_check_fails_where_ours_is_slower(upstream, monkeypatch, ratio, exit_code):
    def latencies(calls, repetitions, warmup, device):
        return {name: (1.0 if name == "ours" else ratio,) * repetitions for name in calls}

    monkeypatch.setattr(encoder_latency, "interleaved_latencies", latencies)
    result = run(compare_encoders, *QUICK, "--check")
    assert result.exit_code == exit_code, result.output
    assert ("64² float32: 0.90 × upstream" in result.stderr) == (exit_code == 1)
    assert run(compare_encoders, *QUICK).exit_code == 0


def test_shortfalls_name_the_point_and_the_ratio():
    point = {"resolution": 64, "dtype": "float32", "ratios": {"twin": 1.0, "ours-openvino": 0.5}}
    record = {"results": {"points": [point]}}
    assert compare_encoders.shortfalls(record) == []
    assert compare_encoders.shortfalls(record, least_ratio=1.5) == ["64² float32: 1.00 × twin, wanted 1.50 ×"]


def small_config(decoder: str):
    return tiny_config(max_position_embeddings=512)


def test_first_tokens_are_drawn_beside_the_papers(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib (the `bench` extra)")
    peer = VlmSubject("llava-onevision", partial(random_vlm, small_config), OUR_VLM.processor, resolution=192)
    monkeypatch.setitem(compare_first_token.VLM_PEERS, "llava-onevision", peer)
    options = ["--model", str(write_tiny_checkpoint(tmp_path / "model")), "--resolutions", "64", "--dtype", "float32"]
    options += ["--repetitions", "1", "--warmup", "0", "--peers", "llava-onevision"]
    result = run(compare_first_token, *options, "--pictures", str(tmp_path), "--json", str(tmp_path / "result.json"))
    assert result.exit_code == 0, result.output
    assert "llava-onevision" in result.stdout
    with Image.open(tmp_path / "ttft-ratios.png") as image:
        assert len(image.convert("RGB").getcolors(2**20)) > 10
    written = json.loads((tmp_path / "result.json").read_text())
    assert [point["resolution"] for point in written["results"]["points"]] == [64, 192]


MISTAKES = [
    (compare_encoders, ["--peers", "onnx"], "Unknown peer 'onnx'; known: upstream"),
    (compare_encoders, ["--check", "--peers", ""], "needs one in --peers"),
    (compare_encoders, ["--resolutions", "small"], "'small' is not a comma-separated list of whole numbers"),
    (compare_first_token, ["--peers", "gpt"], "Unknown peer 'gpt'; known: upstream"),
    (compare_first_token, ["--peers", "", "--json", "no/such/folder/result.json"], "there is no folder"),
    (promised_ratios, ["--threads", "0"], "--threads"),
    (tables, ["nothing"], "nothing.json"),
]


@pytest.mark.parametrize(("script", "arguments", "message"), MISTAKES)
def test_mistakes_end_in_one_line(script, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks/script.py", *arguments])
    with pytest.raises(SystemExit) as end:
        command_lines.run_script(script.main)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("python benchmarks/script.py: error: ")
    assert message in line


def test_scripts_find_each_other_wherever_they_are_run_from(tmp_path):
    output = run_command([sys.executable, str(BENCHMARKS / "promised_ratios.py"), "--help"], folder=tmp_path)
    assert "Measure every promised ratio" in output
