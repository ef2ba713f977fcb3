"""Whole evaluations of the bundled checkpoint: scores, files, batches, going on after a kill, what cannot be read."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import ImageFile
from safetensors.torch import load_file, save_file

for library in ("lmms_eval", "accelerate", "datasets"):
    pytest.importorskip(library, reason=f"evaluation needs {library} (the `evaluation` extra)")

from evaluating import BUNDLED, OWN_TASKS, TASKS, config, image_bytes, write_task

from helpers_tokenizer import qwen2_tokenizer
from running_scripts import ENVIRONMENT, run_command
from transformers_fastvlm import AutoModelForVision2Seq, FastVLMProcessor
from transformers_fastvlm.evaluation import EvaluationConfig, EvaluationError, run_evaluation
from transformers_fastvlm.evaluation.runner import as_wrong, is_hub_id, to_percent
from transformers_fastvlm.inference import ModelOptions, answering


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    """All own tasks on some documents each."""
    folder = tmp_path_factory.mktemp("evaluated")
    run_evaluation(config(folder, *OWN_TASKS, limit=12, command="fastvlm evaluate ..."))
    return folder


@pytest.fixture(autouse=True)
def hurried_harness(monkeypatch):
    """lmms-eval tries to load data five times, with pauses."""
    monkeypatch.setattr("lmms_eval.api.task.ConfigurableTask.download.retry.sleep", lambda seconds: None)


def read(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def samples(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.samples.jsonl").read_text().splitlines()]


def answers(folder: Path) -> list:
    return [(sample["task"], sample["document"], sample["answers"]) for sample in samples(folder)]


def agree(found, expected) -> bool:
    """Whether answers are the same; losses to within rounding, which the other prompts of a batch change."""
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(agree, found, expected))
    return found == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


def values(results: dict) -> dict[str, float]:
    return {row["task"]: row["value"] for row in results["results"]}


def test_scores_are_the_bundled_checkpoints(evaluated):
    found = values(read(evaluated))
    assert list(found) == list(OWN_TASKS)
    assert found["tiny_digits"] == 0
    # Far above chance: one word in many, 1 in 7, 1 in 8, 1 in 4, 1 in 10.
    for task, least in zip(OWN_TASKS[:3] + OWN_TASKS[4:], (60, 25, 75, 90, 75)):
        assert found[task] >= least, task


def test_results_have_what_the_model_card_reads(evaluated):
    results = read(evaluated)
    assert set(results) == {"model", "command", "date", "versions", "settings", "results"}
    assert (results["model"], results["command"]) == (str(BUNDLED), "fastvlm evaluate ...")
    assert {"transformers", "torch", "lmms-eval"} <= set(results["versions"])
    settings = results["settings"]
    assert (settings["resolution"], settings["batch_size"], settings["limit"]) == (192, 8, 12)
    assert settings["ttft_ms"] > 0
    row = results["results"][0]
    assert row | {"value": 0, "stderr": 0} == {
        "task": "tiny_reading",
        "dataset_name": "Tiny reading",
        "dataset_id": None,
        "dataset_split": "test",
        "metric": "exact_match",
        "metric_name": "Exact match",
        "value": 0,
        "stderr": 0,
        "samples": 12,
        "unreadable": 0,
    }


def test_samples_add_up_to_the_scores(evaluated):
    for row in read(evaluated)["results"]:
        scores = [each["scores"][row["metric"]] for each in samples(evaluated) if each["task"] == row["task"]]
        assert len(scores) == 12
        assert 100 * sum(scores) / len(scores) == pytest.approx(row["value"], abs=0.005)
    sample = samples(evaluated)[0]
    assert (sample["question"], sample["document"]) == ("What does it say?", 0)
    assert sample["scores"]["exact_match"] == float(sample["answers"] == [sample["target"]])


def test_one_by_one_gives_the_answers_of_batches(evaluated, tmp_path):
    run_evaluation(config(tmp_path, *OWN_TASKS[:4], limit=12, batch_size=1))
    assert answers(tmp_path) == [answer for answer in answers(evaluated) if answer[0] in OWN_TASKS[:4]]


def count_asked(monkeypatch) -> list[int]:
    """The sizes of the batches that the model is asked from now on."""
    asked: list[int] = []
    for name in ("generate_answers", "score_continuations"):
        function = getattr(answering, name)

        def counted(model, processor, conversations, *args, function=function, **kwargs):
            asked.append(len(conversations))
            return function(model, processor, conversations, *args, **kwargs)

        monkeypatch.setattr(answering, name, counted)
    return asked


def test_a_second_run_does_not_ask_the_model_again(evaluated, tmp_path, monkeypatch):
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    asked = count_asked(monkeypatch)
    run_evaluation(config(tmp_path, *OWN_TASKS, limit=12, command="fastvlm evaluate ..."))
    assert asked == []
    assert read(tmp_path) == read(evaluated)
    assert answers(tmp_path) == answers(evaluated)


def test_damaged_answers_are_asked_for_again(evaluated, tmp_path, monkeypatch):
    tasks = ("tiny_reading", "tiny_matching")
    damages = [
        "nonsense",
        None,
        {},
        {"value": 1},
        "value",
        {"answer": 1},
        {"answer": ["x", True]},
        {"unreadable": "no"},
    ]
    lines = []
    for index, line in enumerate((evaluated / "results.answers.jsonl").read_text().splitlines()):
        record, damage = json.loads(line), damages[index % len(damages)]
        if isinstance(damage, dict) and isinstance(record["value"], dict):
            record["value"] = record["value"] | damage if damage else {}
        elif damage is None:
            record["value"] = None
        else:
            record = record if damage == "value" else {"key": record["key"]}
        lines.append(damage if damage == "nonsense" else json.dumps(record))
    (tmp_path / "results.answers.jsonl").write_text("\n".join(lines))
    asked = count_asked(monkeypatch)
    run_evaluation(config(tmp_path, *tasks, limit=8))
    assert len(asked) > 2
    expected = [answer for answer in answers(evaluated) if answer[0] in tasks and answer[1] < 8]
    assert agree(answers(tmp_path), expected)


@pytest.mark.parametrize("change", [{"resolution": 128}, {"dtype": "bfloat16"}, {"model": "other"}])
def test_answers_are_those_of_one_model_and_its_settings(change, evaluated, tmp_path, monkeypatch):
    shutil.copy(evaluated / "results.answers.jsonl", tmp_path)
    if "model" in change:
        change = {"model": shutil.copytree(BUNDLED, tmp_path / "model")}
        weights = load_file(change["model"] / "model.safetensors")
        weights["lm_head.weight"] = weights["lm_head.weight"].flip(0).contiguous()
        save_file(weights, change["model"] / "model.safetensors", {"format": "pt"})
    asked = count_asked(monkeypatch)
    run_evaluation(config(tmp_path, "tiny_reading", limit=4, **change))
    assert asked == [1, 1, 1, 1, 1, 4]  # the time to first token, then the batch


def wait_for_lines(path: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.time() + 200
    while not (path.exists() and path.read_bytes().count(b"\n") >= count):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.time() < deadline
        time.sleep(0.005)


def command(folder: Path, *tasks: str, limit: int = 12) -> list[str]:
    options = ["--model", BUNDLED, "--tasks", ",".join(tasks), "--include-path", TASKS, "--limit", limit]
    options += ["--output", folder / "results.json"]
    return ["-m", "transformers_fastvlm", "evaluate", *map(str, options)]


def test_a_killed_run_goes_on(tmp_path, monkeypatch):
    start = [sys.executable, *command(tmp_path, "tiny_reading", limit=60)]
    process = subprocess.Popen(start, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = tmp_path / "results.answers.jsonl"
    wait_for_lines(store, 6, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "results.json").exists()
    store.write_bytes(store.read_bytes()[:-7])  # the disk is too fast to be sure of a line cut short
    whole = store.read_bytes().count(b"\n") - 1  # besides the time to first token
    asked = count_asked(monkeypatch)
    run_evaluation(config(tmp_path, "tiny_reading", batch_size=1, limit=60))
    assert sum(asked) == 60 - whole
    assert len(samples(tmp_path)) == 60
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    run_evaluation(config(undisturbed, "tiny_reading", batch_size=1, limit=60))
    assert answers(tmp_path) == answers(undisturbed)
    assert values(read(tmp_path)) == values(read(undisturbed))


def test_two_processes_share_the_documents(evaluated, tmp_path):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    tasks = ("tiny_reading", "tiny_matching")
    run_command([*start, *command(tmp_path, *tasks, limit=9), "--batch-size", "8"])
    assert (tmp_path / "results.answers.1.jsonl").exists()
    expected = [each for each in samples(evaluated) if each["task"] in tasks and each["document"] < 9]
    in_order = sorted(samples(tmp_path), key=lambda each: (tasks.index(each["task"]), each["document"]))
    assert [each["answers"][:1] for each in in_order[:9]] == [each["answers"] for each in expected[:9]]
    assert [each["scores"] for each in in_order] == [each["scores"] for each in expected]
    assert [row["samples"] for row in read(tmp_path)["results"]] == [9, 9]
    assert read(tmp_path)["settings"]["processes"] == 2


BROKEN = (b"no image at all", image_bytes()[:30], b"")


def test_unreadable_images_count_as_wrong_and_are_listed(tmp_path):
    """The first document's too, which lmms-eval reads to check the task; and where no answer would be scored right."""
    images = [BROKEN[0], image_bytes(), BROKEN[1], BROKEN[2]]
    write_task(tmp_path, "words", images, answer=[""] * 4)
    write_task(tmp_path, "choosing", images, choices=[["A", "B"]] * 4, label=[0] * 4)
    found = run_evaluation(config(tmp_path, "words", "choosing", include_path=tmp_path))["results"]
    assert [(row["samples"], row["unreadable"]) for row in found] == [(4, 3), (4, 3)]
    for row in found:
        each = [sample for sample in samples(tmp_path) if sample["task"] == row["task"]]
        assert [sample["unreadable"] for sample in each] == [True, False, True, True]
        scores = [sample["scores"][row["metric"]] for sample in each]
        assert scores[0] == scores[2] == scores[3] == 0
        assert row["value"] == 25 * scores[1]


def test_unreadable_ones_are_still_counted_when_the_run_goes_on(tmp_path, monkeypatch):
    write_task(tmp_path, "words", [image_bytes(), BROKEN[0]], answer=["A", "B"])
    first = run_evaluation(config(tmp_path, "words", include_path=tmp_path))
    asked = count_asked(monkeypatch)
    assert run_evaluation(config(tmp_path, "words", include_path=tmp_path)) == first
    assert first["results"][0]["unreadable"] == 1
    assert asked == []


@pytest.mark.parametrize(
    ("score", "wrong"),
    [
        (1.0, 0.0),
        (True, 0.0),
        ({"pred": "A", "answer": "A", "question_id": 3}, {"pred": "", "answer": "A", "question_id": 3}),
        ({"parsed_pred": ["B"], "answer": "B"}, {"parsed_pred": [""], "answer": "B"}),
        ({"question_type": "Doc", "score": 1}, {"question_type": "Doc", "score": 0}),
    ],
)
def test_a_wrong_score_of_every_kind_of_task(score, wrong):
    assert as_wrong(score) == wrong


@pytest.mark.parametrize(
    ("value", "scores", "factor"),
    [
        (0.5, [0, 1.0], 100),
        (0.5, [True, False], 100),
        (0.4, [{"score": 1}, {"score": 0}], 100),
        (0.5, [0, 0, 100, 0], 1),
        (64.5, [{"score": 1}], 1),
        (-1.2, [-1.2], 1),
        (0.0, [], 100),
    ],
)
def test_fractions_become_percent(value, scores, factor):
    assert to_percent(value, scores) == factor


def test_pil_refuses_images_cut_short_before_and_after(tmp_path):
    """lmms-eval has PIL read them; checks of training data in the same process still have to find them broken."""
    program = (
        "import sys\nfrom PIL import ImageFile\n"
        "from transformers_fastvlm.evaluation import load_metric\n"
        "from transformers_fastvlm.evaluation.runner import load_tasks, quieten_harness\n"
        "load_metric('vqa_accuracy'), quieten_harness(), load_tasks(['tiny_reading'], sys.argv[1])\n"
        "assert not ImageFile.LOAD_TRUNCATED_IMAGES"
    )
    subprocess.run([sys.executable, "-c", program, TASKS], env=ENVIRONMENT, check=True, timeout=300)
    write_task(tmp_path, "words", [image_bytes()[:100]], answer=["A"])
    (row,) = run_evaluation(config(tmp_path, "words", include_path=tmp_path))["results"]
    assert row["unreadable"] == 0
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_only_data_of_the_hub_has_an_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local" / "data").mkdir(parents=True)
    assert is_hub_id("lmms-lab/textvqa")
    assert not any(map(is_hub_id, ("parquet", "local/data", str(tmp_path), "/no/such/folder")))


def test_new_images_under_the_same_questions_are_asked_about(tmp_path, monkeypatch):
    write_task(tmp_path, "words", [image_bytes()], answer=["A"])
    run_evaluation(config(tmp_path, "words", include_path=tmp_path))
    write_task(tmp_path, "words", [image_bytes("blue") + b"\0"], answer=["A"])
    asked = count_asked(monkeypatch)
    run_evaluation(config(tmp_path, "words", include_path=tmp_path))
    assert asked == [1]


def test_an_empty_data_set_is_named(tmp_path):
    write_task(tmp_path, "nothing", [], answer=[])
    with pytest.raises(
        EvaluationError, match="data of task 'nothing' could not be loaded; is it whole, and not empty"
    ):
        run_evaluation(config(tmp_path, "nothing", include_path=tmp_path))


def test_an_unknown_task_is_named_with_those_like_it(tmp_path):
    with pytest.raises(EvaluationError, match=r"no task 'textvqa_vall'. Did you mean .*textvqa_val"):
        run_evaluation(config(tmp_path, "tiny_reading", "textvqa_vall"))


def test_data_that_is_not_here_is_named(tmp_path):
    write_task(tmp_path, "words", [image_bytes()], answer=["A"])
    (tmp_path / "words.parquet").unlink()
    with pytest.raises(EvaluationError, match="data of task 'words' could not be loaded"):
        run_evaluation(config(tmp_path, "words", include_path=tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tasks": ()}, "at least one task"), ({"limit": 0}, "at least 1"), ({"batch_size": 0}, "at least 1")],
)
def test_senseless_configurations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**({"model": ModelOptions("x"), "tasks": ("tiny_reading",)} | options))


def test_own_and_original_format_give_the_same_answers(original_folder, tmp_path):
    original, own = tmp_path / "original", tmp_path / "own"
    original.mkdir()
    qwen2_tokenizer(151643, padding_side="right").save_pretrained(original)
    for name in ("config.json", "model.safetensors"):
        (original / name).symlink_to(original_folder / name)
    AutoModelForVision2Seq.from_pretrained(original, dtype="float32").save_pretrained(own)
    FastVLMProcessor.from_pretrained(original).save_pretrained(own)
    found = {}
    for folder in (original, own):
        run_evaluation(config(folder, "tiny_reading", model=folder, resolution=128, limit=4, dtype="float32"))
        found[folder] = answers(folder)
    assert found[own] == found[original]
    assert any(text for _, _, (text,) in found[own])
