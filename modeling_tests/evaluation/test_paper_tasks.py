"""The paper's benchmarks as lmms-eval defines them, on documents made here in place of their data."""

import random
from pathlib import Path

import pytest

for library in ("lmms_eval", "accelerate", "datasets"):
    pytest.importorskip(library, reason=f"evaluation needs {library} (the `evaluation` extra)")

import datasets
import lmms_eval.tasks
import pyarrow.parquet
from evaluating import config, image_bytes

from transformers_fastvlm.evaluation import run_evaluation
from transformers_fastvlm.evaluation.known_tasks import KNOWN_TASKS
from transformers_fastvlm.evaluation.runner import load_tasks
from transformers_fastvlm.inference import answering

DEFINITIONS = Path(lmms_eval.tasks.__file__).parent
CHOICES = {"choice_a": "1", "choice_b": "2", "choice_c": "3", "choice_d": "4"}
# A document of each, but for its images.
DOCUMENTS = {
    "textvqa/textvqa_val": {"question": "what?", "question_id": 1, "answers": ["A"] * 10, "ocr_tokens": ["A"]},
    "chartqa/chartqa": {"question": "How many?", "answer": "12", "type": "human_test"},
    "docvqa/docvqa_val": {"question": "Who?", "answers": ["A", "B"], "questionId": "1"},
    "mmmu/mmmu_val": {
        "id": "validation_Art_1",
        "question": "Is <image 1> like <image 2>?",
        "options": "['yes', 'no']",
        "question_type": "multiple-choice",
        "answer": "A",
    },
    "ocrbench/ocrbench": {
        "question": "What?",
        "answer": ["A"],
        "dataset": "IIIT5K",
        "question_type": "Regular Text Recognition",
    },
    "realworldqa/realworldqa": {"question": "Which?\nA. 1\nB. 2", "answer": "A"},
    "seedbench/seedbench": {"question": "Which?", "answer": "A", "data_type": "image", "question_id": "1", **CHOICES},
    "scienceqa/scienceqa_img": {"question": "Which?", "choices": ["1", "2"], "answer": 0, "hint": "", "lecture": ""},
    "ai2d/ai2d": {"question": "Which?", "options": ["1", "2"], "answer": "0"},
}


def write_stand_in(folder: Path, definition: str, document: dict) -> str:
    """The task's own definition with other data: a readable document, and one with an unreadable image."""
    name = definition.rpartition("/")[2]
    pictures = [{"bytes": data, "path": None} for data in (image_bytes(), b"no image")]
    if name == "mmmu_val":
        images = {"image_1": pictures, "image_2": [pictures[0]] * 2}
    else:
        images = {"image": [[picture] for picture in pictures] if name == "seedbench" else pictures}
    data = datasets.Dataset.from_dict({column: [value] * 2 for column, value in document.items()} | images)
    kind = datasets.List(datasets.Image()) if name == "seedbench" else datasets.Image()
    for column in images:
        data = data.cast_column(column, kind)
    pyarrow.parquet.write_table(data.data.table, folder / f"{name}.parquet")
    (folder / f"{name}.yaml").write_text(
        f"task: own_{name}\ninclude: {DEFINITIONS / definition}.yaml\ndataset_path: parquet\ndataset_name: null\n"
        f"dataset_kwargs:\n  data_files:\n    test: {name}.parquet\ntest_split: test\n"
    )
    return f"own_{name}"


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict[str, dict]]:
    """Rows of the results by task and metric."""
    folder = tmp_path_factory.mktemp("paper")
    names = [write_stand_in(folder, *each) for each in DOCUMENTS.items()]
    rows: dict[str, dict[str, dict]] = {}
    for row in run_evaluation(config(folder, *names, include_path=folder))["results"]:
        rows.setdefault(row["task"].removeprefix("own_"), {})[row["metric"]] = row
    return rows


@pytest.mark.parametrize("name", [definition.rpartition("/")[2] for definition in DOCUMENTS])
def test_the_metric_that_papers_report_is_there(found, name):
    row = found[name][KNOWN_TASKS[name].metric]
    assert (row["samples"], row["unreadable"]) == (2, 1)
    assert 0 <= row["value"] <= 50  # at most the readable one is right


def test_a_guess_in_place_of_no_answer_does_not_count(tmp_path, monkeypatch):
    """MMMU takes a choice by chance; this one would be right."""
    name = write_stand_in(tmp_path, "mmmu/mmmu_val", DOCUMENTS["mmmu/mmmu_val"])
    monkeypatch.setattr(random, "choice", lambda choices: "A")
    monkeypatch.setattr(answering, "generate_answers", lambda *args, **options: ["A"])
    (row,) = run_evaluation(config(tmp_path, name, include_path=tmp_path))["results"]
    assert (row["value"], row["samples"], row["unreadable"]) == (50.0, 2, 1)


def test_files_to_hand_in_are_no_scores(found):
    assert "submission" not in found["textvqa_val"]


def test_all_tasks_with_the_cards_scores_are_lmms_evals(monkeypatch):
    monkeypatch.setattr(lmms_eval.tasks.TaskManager, "load_task_or_group", lambda self, name: {name: name})
    names = [name for name, known in KNOWN_TASKS.items() if known.card]
    assert load_tasks(names) == names
