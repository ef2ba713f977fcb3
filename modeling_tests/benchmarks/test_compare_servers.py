"""The script that compares servers: a real server of ours is asked; nothing full-size is built."""

import base64
import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import compare_servers
import peer_servers
import tables
from tiny_models import tiny_config
from transformers_fastvlm import AutoModelForVision2Seq, FastVLMProcessor
from transformers_fastvlm.inference.model_options import bundled_checkpoint

for module in ("uvicorn", "openai", "prometheus_client"):
    pytest.importorskip(module, reason="the server needs the `serve` extra")

SIGN = Path(bundled_checkpoint(), "images", "sign.png")


def run(*arguments: str):
    app = typer.Typer()
    app.command()(compare_servers.main)
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_clients_are_answered_by_a_server_and_counted(monkeypatch, tmp_path):
    address = "data:image/png;base64," + base64.b64encode(SIGN.read_bytes()).decode()
    monkeypatch.setattr(compare_servers, "picture", lambda seed, side: address)
    monkeypatch.setattr(compare_servers, "QUESTION", "What does it say?")
    path = tmp_path / "servers.json"
    options = ("--servers", "ours", "--clients", "1,3", "--requests", "2", "--new-tokens", "3", "--json", str(path))
    result = run("--model", bundled_checkpoint(), *options)
    assert result.exit_code == 0, result.output
    points = json.loads(path.read_text())["results"]["points"]
    assert [(point["load"]["clients"], len(point["answers"])) for point in points] == [(1, 2), (3, 3)]
    for point in points:
        assert all(each["error"] is None and each["tokens"] == 3 for each in point["answers"])
        assert all(0 < each["first"] <= each["seconds"] <= point["seconds"] for each in point["answers"])
    table = tables.markdown(path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "| ours" in line]
    assert [row[:2] + row[-1:] for row in rows] == [["ours", "1", "0"], ["ours", "3", "0"]]
    assert float(rows[0][2]) == pytest.approx(2 / points[0]["seconds"], abs=0.01)


BROKEN = peer_servers.ServerSubject("broken", lambda *_: [peer_servers.sys.executable, "-c", "raise OSError(7)"])


def test_a_server_that_does_not_start_says_why(tmp_path):
    with (
        pytest.raises(RuntimeError, match=r"broken does not start:[\s\S]*OSError: 7"),
        peer_servers.running(BROKEN, tmp_path, "float32", 1, tmp_path / "log"),
    ):
        pass


def test_nor_does_it_take_from_the_others_what_was_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(compare_servers, "SERVER_PEERS", {"broken": BROKEN})
    path = tmp_path / "servers.json"
    result = run("--model", bundled_checkpoint(), "--servers", "broken", "--json", str(path))
    assert "OSError: 7" in str(result.exception)
    assert json.loads(path.read_text())["results"]["points"] == []


def test_an_unknown_decoder_and_server():
    assert "Unknown decoder '9B'" in str(run("--decoder", "9B").exception)
    assert "Unknown peer 'sglang'" in str(run("--servers", "sglang").exception)


def test_a_random_checkpoint_has_a_text_for_every_token(monkeypatch, tmp_path):
    config = tiny_config()
    config.text_config.vocab_size = 400
    monkeypatch.setattr(compare_servers, "our_config", lambda decoder: config)
    compare_servers.write_random_checkpoint(tmp_path, "0.5B", "float32", 128)
    processor = FastVLMProcessor.from_pretrained(tmp_path)
    assert len(processor.tokenizer) == 400
    assert all(processor.tokenizer.decode([index]) for index in range(400))
    inputs = processor(images=Image.open(SIGN), text="<image>", return_tensors="pt")
    model = AutoModelForVision2Seq.from_pretrained(tmp_path)
    assert inputs["pixel_values"].shape[-1] == model.config.vision_config.image_size == 128
