"""The paper's stages in miniature, whole: every recipe in turn, each from the model of the one before."""

import json
import sys
from pathlib import Path

import pytest

from training_runs import EXAMPLES, run_here

for library in ("accelerate.utils", "datasets", "evaluate", "sklearn"):
    pytest.importorskip(library, reason=f"the script needs {library} (the `train` extra)")
sys.path.insert(0, str(EXAMPLES / "tiny_reader"))

import tiny_stages


def test_every_stage_starts_from_the_one_before(tmp_path, monkeypatch):
    started = []

    def run(command, **kwargs):
        started.append(command)
        run_here(Path(command[1]).name, *command[2:])

    monkeypatch.setattr(tiny_stages.subprocess, "run", run)
    arguments = ["--images", "16", "--test_size", "4", "--max_steps", "1", "--json", str(tmp_path / "table.json")]
    monkeypatch.setattr(sys, "argv", ["tiny_stages.py", "--work_dir", str(tmp_path), *arguments])
    tiny_stages.main()
    models = [command[command.index("--model") + 1] for command in started[1:]]
    assert models == [str(tmp_path / f"stage{stage}") for stage in ("1", "1.5", "2")]
    assert "--encoder" in started[0]
    recipes = [Path(command[command.index("--recipe") + 1]).stem for command in started]
    assert recipes == ["stage_1", "stage_1.5", "stage_2", "stage_3"]
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row[0] for row in table["rows"]] == ["1", "1.5", "2", "3"]
    assert {row[3] for row in table["rows"]} == {"12.5%"}


def test_captions_and_questions_are_of_the_same_shapes(tmp_path):
    rows = tiny_stages.write_rows(tmp_path, "x", 5)
    captions = [json.loads(line) for line in (tmp_path / "x-captions.jsonl").read_text().splitlines()]
    questions = [json.loads(line) for line in (tmp_path / "x-questions.jsonl").read_text().splitlines()]
    assert [row["caption"].split()[0] for row in captions] == [row["answer"] for row in questions]
    assert [set(row) for row in captions] == [{"image", "caption"}] * 5
    assert rows == tiny_stages.write_rows(tmp_path, "x", 5)
