# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What users get wrong ends in one line that says what, before anything is loaded; what ends a run leaves nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from publishing.loopback_hub import client_environment
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.publishing.command import publish_command

PUBLISH = Path(__file__).parents[2] / "hub_upload" / "publish.py"
BINARY = bytes(range(256))
BENCHMARK = {"benchmark": "ttft", "machine": {}, "config": {}, "points": []}
SCORE = dict.fromkeys(
    ("dataset_name", "dataset_id", "dataset_split", "metric", "metric_name", "stderr", "samples"), "x"
)
RESULTS = {"model": "x", "settings": {}, "command": "", "results": [SCORE | {"task": "words", "value": "high"}]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def run(*arguments, **environment):
    app = Typer()
    app.command()(publish_command)
    runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", **environment})
    return runner.invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments, **environment):
    """The line that says why nothing was published."""
    done = run(*arguments, "--repo-id", "acme/reader", "--dry-run", **environment)
    assert (done.exit_code, type(done.exception)) == (1, SystemExit), done.output
    lines = [line for line in done.output.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1 and lines[0].startswith("Not published. ")
    return lines[0]


# By options, of which FILE is a file with this content.
FILES = {
    "results that are a list": (["--results", "FILE"], b"[1]", "has no results of `fastvlm evaluate`"),
    "results without numbers": (
        ["--results", "FILE"],
        json.dumps(RESULTS).encode(),
        "FILE has a score whose value is a str",
    ),
    "results that are no text": (["--results", "FILE"], BINARY, "cannot be read as results"),
    "a benchmark of another kind": (
        ["--benchmark", "FILE"],
        b'{"benchmark": "encoder"}',
        "its `benchmark` is 'encoder'",
    ),
    "a benchmark that lacks something": (
        ["--benchmark", "FILE"],
        json.dumps(BENCHMARK).encode(),
        "FILE is not what `fastvlm bench ttft --json` writes: KeyError",
    ),
    "a benchmark that is no text": (["--benchmark", "FILE"], BINARY, "FILE is no text in UTF-8"),
    "a licence that is no text": (["--license-file", "FILE"], BINARY, "FILE is no text in UTF-8"),
    "an example that is no picture": (["--example-image", "FILE"], BINARY, "FILE cannot be read as an image"),
    "a folder that is a file": (["--folder", "FILE"], b"", "FILE is a file. `--folder` takes an empty folder"),
    "a folder below a file": (["--folder", "FILE/below"], b"", "Not a directory"),
    "a size that is none": (["--max-shard-size", "5XB"], b"", "'5XB' is no size of a file"),
    "a language that is none": (["--language", "English"], b"", "'English' is no language by its ISO 639 code"),
    "a name of a known licence": (["--license-name", "ours"], b"", "`--license-name` goes with `--license other`"),
}


@pytest.mark.parametrize("mistake", FILES)
def test_options(mistake, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers_fastvlm.publishing.publication.load_model", lambda *_: pytest.fail("loaded"))
    options, content, message = FILES[mistake]
    (tmp_path / "file").write_bytes(content)
    options = [option.replace("FILE", str(tmp_path / "file")) for option in options]
    if "--folder" not in options:
        options += ["--folder", tmp_path / "folder"]
    line = refusal(tiny, "--license", "mit", *options)
    assert message.replace("FILE", str(tmp_path / "file")) in line


SOURCE_FILES = {
    "trainer_state cut": ("trainer_state.json", b'{"global_step": 7', r"trainer_state.json is no JSON file"),
    "trainer_state of others": ("trainer_state.json", b'{"epoch": 1}', "is not what transformers' Trainer writes"),
    "trainer_state a list": ("trainer_state.json", b"[]", "trainer_state.json has no JSON object in it"),
    "an empty adapter": ("adapter_config.json", b"{}", "has no base_model_name_or_path and no peft_type"),
    "configuration cut": ("config.json", b"{", "config.json is no JSON file"),
    "configuration a list": ("config.json", b"[]", "config.json has no JSON object in it"),
    "configuration of numbers": (
        "config.json",
        b'{"model_type": "fastvlm", "vision_config": 5}',
        "`vision_config` must be a configuration",
    ),
    "generation configuration cut": ("generation_config.json", b"[", "generation_config.json is no JSON file"),
    "processor of numbers": (
        "processor_config.json",
        b'{"image_processor": 5}',
        "its `image_processor` is no JSON object",
    ),
    "tokenizer cut": ("tokenizer.json", b"{", "tokenizer.json is no JSON file"),
    "card with YAML that is none": (
        "README.md",
        b"---\nlicense: [mit\n---\n",
        "The metadata of .*README.md cannot be read",
    ),
    "card that is no text": ("README.md", BINARY, "The metadata of .*README.md cannot be read"),
    "licence that is no text": ("LICENSE", BINARY, "LICENSE is no text in UTF-8"),
}


@pytest.mark.parametrize("mistake", SOURCE_FILES)
def test_files_of_the_source(mistake, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers_fastvlm.publishing.publication.load_model", lambda *_: pytest.fail("loaded"))
    name, content, message = SOURCE_FILES[mistake]
    source = shutil.copytree(tiny, tmp_path / "source")
    (source / name).write_bytes(content)
    line = refusal(source, "--license", "mit", "--folder", tmp_path / "folder")
    assert re.search(message, line), line
    assert not any((tmp_path / "folder").iterdir())


LOADED = {
    "a template that is none": (
        "chat_template.jinja",
        "{% if %}",
        "cannot be asked about an image: TemplateSyntaxError",
    ),
    "generation settings at odds": ("generation_config.json", '{"temperature": 0.1}', "cannot be written: ValueError"),
}


@pytest.mark.parametrize("mistake", LOADED)
def test_what_only_loading_shows(mistake, tiny, tmp_path):
    name, content, message = LOADED[mistake]
    source = shutil.copytree(tiny, tmp_path / "source")
    (source / name).write_text(content)
    assert message in refusal(source, "--license", "mit", "--folder", tmp_path / "folder")


def test_sources(tiny, tmp_path):
    options = ("--license", "mit", "--folder", tmp_path / "folder")
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is no folder" in refusal(tmp_path / "file", *options)
    assert "'' is no folder" in refusal("", *options)
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / name).symlink_to(other)
    assert "is no folder, and no id of a repository" in refusal(tmp_path / "one", *options)
    assert "[/red]x is no folder" in refusal(tmp_path / "[/red]x", *options)
    source = shutil.copytree(tiny, tmp_path / "source")
    (source / "model.safetensors").unlink()
    (source / "model.safetensors").symlink_to("model.safetensors")
    assert "has no weights" in refusal(source, *options)
    assert f"{tiny} is not empty" in refusal(tiny, "--license", "mit", "--folder", tiny)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "/nowhere", "peft_type": "LORA"}')
    assert f"/nowhere, the base of the adapter {adapter}, is no folder" in refusal(adapter, *options)


def test_licences(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers_fastvlm.publishing.publication.load_model", lambda *_: pytest.fail("loaded"))
    source = shutil.copytree(tiny, tmp_path / "source")
    folder = ("--folder", tmp_path / "folder")
    line = refusal(source, *folder, "--license", "Apache2")
    assert "'Apache2' is none of the Hub's licence identifiers; near it are apache-2.0" in line
    needs = "The licence `other` needs a name (`--license-name`) and its text (`--license-file`"
    assert needs in refusal(source, *folder, "--license", "other")
    assert needs in refusal(source, *folder, "--license", "other", "--license-name", "ours")
    (source / "README.md").write_text("---\nlicense: mine\n---\n")
    assert f"'mine', which the card of {source} names, is none of the Hub" in refusal(source, *folder)
    (source / "README.md").write_text("---\nlicense: [mit, bsd]\n---\n")
    assert "names no one licence" in refusal(source, *folder)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_what_ends_a_run_leaves_nothing(name, hub, tiny, tmp_path):
    place = tmp_path / "temporary"
    place.mkdir()
    environment = client_environment(hub, tmp_path / "home") | {
        "HF_TOKEN": "hf_alice",
        "TMPDIR": str(place),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),  # torch makes it when it is imported
    }
    command = [sys.executable, str(PUBLISH), str(tiny), "--repo-id", "acme/reader", "--license", "mit"]
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # as from a terminal, however these tests were started
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    signal.signal(number, before)
    # In its own process, the code is being verified, which takes seconds.
    told = next(line for line in process.stderr if "without this package" in line or "Not published" in line)
    assert "without this package" in told
    assert len(os.listdir(place)) > 0
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(timeout=60) != 0
    assert "Traceback" not in rest
    assert os.listdir(place) == []
    assert not hub.requests_to("POST", "/commit/")
