# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What `fastvlm serve` is told, and how it ends where that is wrong: in one line."""

import json
import os
import socket
import sys

import pytest
from typer.testing import CliRunner

from serving.running_server import BUNDLED
from transformers_fastvlm.cli import app
from transformers_fastvlm.inference import ModelOptions, RunOptions
from transformers_fastvlm.serving import ServingConfig

pytest.importorskip("uvicorn", reason="the server needs the `serve` extra")
pytest.importorskip("prometheus_client", reason="the server needs the `serve` extra")


VLLM = ["--engine", "vllm"]


def failure(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(
        app, ["serve", "--model", str(BUNDLED), *map(str, arguments)]
    )
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0]


def test_help_names_the_options():
    output = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["serve", "--help"]).output
    for (
        option
    ) in "model adapter optimize port api-key allow-local-path allow-url batch-size max-waiting timeout".split():
        assert f"--{option}" in output
    assert "--static-cache" not in output


def test_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen at 127.0.0.1 port {port}: Address already in use" in failure("--port", port)


def test_a_host_that_is_not_known():
    assert "cannot listen at no.such.host.invalid" in failure("--host", "no.such.host.invalid")


def test_no_such_model(tmp_path):
    assert f"--model: there is no folder {tmp_path}/nowhere" in failure("--port", 0, "--model", tmp_path / "nowhere")


def test_a_model_that_is_not_fastvlm(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    assert "bert" in failure("--port", 0, "--model", tmp_path)


def test_a_device_that_is_not_there():
    assert "'cuda:99' cannot be used" in failure("--device", "cuda:99")


def test_an_extra_that_is_missing(monkeypatch):
    monkeypatch.setattr("transformers_fastvlm.extras.is_installed", lambda module: module != "uvicorn")
    assert "needs uvicorn, which is not installed: pip install 'transformers-fastvlm[serve]'" in failure("--port", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--adapter", "x"], "not NAME=FOLDER"),
        (["--adapter", "a=x", "--adapter", "a=y"], "a name of its own"),
        (["--adapter", "tiny-reader=x"], "a name of its own"),
        (["--adapter", "a=x", "--optimize"], "merge"),
        (["--allow-local-path", "/no/such/folder"], "no folder /no/such/folder"),
        (["--allow-url", "images.example.com"], "not like https://"),
        (["--allow-url", "https://images.example.com"], "not like https://"),
        (["--port", 70000], "from 0 to 65535"),
        (["--timeout", 0], "above 0"),
        (["--batch-size", 0], "batch-size"),
        (["--engine", "sglang"], "known are transformers, vllm"),
        (["--tensor-parallel", 2], "for the engine vllm"),
        ([*VLLM, "--optimize"], "for the engine transformers"),
        ([*VLLM, "--timeout", 5], "--timeout is for the engine transformers"),
        ([*VLLM, "--allow-local-path", ".", "--allow-local-path", ".."], "once"),
    ],
)
def test_options_that_cannot_be(options, message):
    assert message in failure(*options)


def test_vllm_is_started_with_the_same_options(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr("transformers_fastvlm.extras.is_installed", lambda module: True)
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments) or sys.exit(0))
    options = ["--port", 0, "--name", "eye", "--batch-size", 4, "--max-images", 3, "--tensor-parallel", 2]
    options += ["--allow-local-path", tmp_path, "--allow-url", "https://images.example.com/", "--api-key", "secret"]
    command = ["serve", "--model", BUNDLED, *VLLM, *options]
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0
    ((_, words, environment),) = started
    said = " ".join(words)
    assert f"--model {BUNDLED} --served-model-name eye tiny-reader {BUNDLED}" in said
    assert "--max-num-seqs 4" in said and '--limit-mm-per-prompt {"image": 3}' in said
    assert "--tensor-parallel-size 2" in said and f"--allowed-local-media-path {tmp_path}" in said
    assert "--allowed-media-domains images.example.com" in said
    assert environment["VLLM_API_KEY"] == "secret" and "secret" not in said


def test_a_model_is_called_by_its_last_name_too():
    assert ServingConfig(ModelOptions("apple/FastVLM-0.5B")).model_names == ("FastVLM-0.5B", "apple/FastVLM-0.5B")
    assert ServingConfig(ModelOptions("apple/FastVLM-0.5B"), name="eye").model_names[0] == "eye"
    assert ServingConfig(ModelOptions(str(BUNDLED))).model_names[0] == "tiny-reader"
    assert ServingConfig(ModelOptions("x"), RunOptions(optimize=True)).run.optimize
