"""Results read back, compared, printed and drawn."""

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from transformers_fastvlm.evaluation.comparison import differences, drops, read_results
from transformers_fastvlm.evaluation.known_tasks import KNOWN_TASKS
from transformers_fastvlm.evaluation.report import print_differences, print_results


def row(task: str, metric: str, value: float, stderr: float | None = 0.5) -> dict:
    known = KNOWN_TASKS.get(task)
    names = {"dataset_name": known.dataset_name if known else task, "metric_name": metric.capitalize()}
    data = {"dataset_id": None, "dataset_split": "test", "samples": 100, "unreadable": 1}
    return {"task": task, "metric": metric, "value": value, "stderr": stderr, **names, **data}


def write(path: Path, *rows: dict, resolution: int = 256, ttft_ms: float | None = 20.0, answers=None) -> Path:
    settings = {"resolution": resolution, "quantization": None, "batch_size": 8, "ttft_ms": ttft_ms}
    path.write_text(json.dumps({"model": "some/model", "settings": settings, "results": list(rows)}))
    for task, each in (answers or {}).items():
        lines = [json.dumps({"task": task, "document": index, "answers": given}) for index, given in enumerate(each)]
        path.with_suffix(".samples.jsonl").write_text("\n".join(lines))
    return path


def printed(function, *arguments) -> str:
    output = io.StringIO()
    function(*arguments, Console(width=160, file=output))
    return output.getvalue()


def test_points_and_changed_answers(tmp_path):
    before = write(
        tmp_path / "a.json", row("x", "acc", 50.0), row("y", "acc", 1.0), answers={"x": [["A"], ["B"], ["C"]]}
    )
    after = write(tmp_path / "b.json", row("x", "acc", 47.5), answers={"x": [["A"], ["D"], ["C"]]})
    (found,) = differences(after, before)
    assert (found.task, found.before, found.after, found.points) == ("x", 50.0, 47.5, -2.5)
    assert found.changed == ((1, "B", "D"),)
    text = printed(print_differences, [found])
    assert "| x    | acc    |   50.0 | 47.5 |   -2.5 |             1 |" in text
    assert "x 1: 'B', now 'D'" in text


def test_of_log_likelihoods_the_choice_counts(tmp_path):
    before = write(
        tmp_path / "a.json",
        row("x", "acc", 50.0),
        answers={"x": [[[1.5, False], [0.5, True]], [[1, True], [2, False]]]},
    )
    after = write(
        tmp_path / "b.json",
        row("x", "acc", 50.0),
        answers={"x": [[[1.4, False], [0.6, True]], [[3, True], [2, False]]]},
    )
    assert differences(after, before)[0].changed == ((1, "0", "1"),)


def test_without_samples_only_scores_are_compared(tmp_path):
    before, after = (write(tmp_path / name, row("x", "acc", 50.0)) for name in ("a.json", "b.json"))
    found = differences(after, before)
    assert found[0].changed is None
    assert "–" in printed(print_differences, found)


@pytest.mark.parametrize(("tolerance", "fallen"), [(2.4, 1), (2.5, 0), (0, 1)])
def test_a_drop_beyond_the_tolerance_is_named(tmp_path, tolerance, fallen):
    before = write(tmp_path / "a.json", row("x", "acc", 50.0), row("y", "acc", 50.0))
    after = write(tmp_path / "b.json", row("x", "acc", 47.5), row("y", "acc", 52.5))
    found = drops(differences(after, before), tolerance)
    assert found == ["x, acc: 50.0 % before, 47.5 % now"][:fallen]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read as results"),
        ("{", "cannot be read as results"),
        ("[]", "has no results of"),
        ('{"model": "x"}', "has no results of"),
        ('{"model": "x", "settings": {}, "results": []}', "has no scores"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_results_with_nothing_in_common_are_refused(tmp_path):
    before, after = write(tmp_path / "a.json", row("x", "acc", 1.0)), write(tmp_path / "b.json", row("y", "acc", 1.0))
    with pytest.raises(ValueError, match="no task in common"):
        differences(after, before)


def test_the_table_has_the_cards_scores_beside_the_metric_they_are_of(tmp_path):
    path = write(
        tmp_path / "a.json",
        row("chartqa", "relaxed_overall", 70.0),
        row("chartqa", "relaxed_human_split", 60.0, None),
        row("tiny_digits", "exact_match", 5.0),
    )
    text = printed(print_results, read_results(path))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == [
        "task",
        "metric",
        "%",
        "samples",
        "unreadable",
        "original 0.5B",
        "original 1.5B",
        "original 7B",
    ]
    assert lines[2] == ["ChartQA", "Relaxed_overall", "70.0 ± 0.5", "100", "1", "76.0", "80.1", "85.0"]
    assert lines[3][2:] == ["60.0", "100", "1", "", "", ""]
    assert lines[4][0::5] == ["tiny_digits", ""]
    assert "some/model: resolution 256, batch size 8, ttft ms 20.0" in text


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib (the `evaluation` extra)")
    from transformers_fastvlm.evaluation.plots import draw_results, reported_rows

    several = [
        read_results(
            write(tmp_path / f"{side}.json", row("textvqa_val", "exact_match", score), resolution=side, ttft_ms=ms)
        )
        for side, score, ms in ((256, 40.0, 50.0), (1024, 64.0, 170.0))
    ]
    assert [path.name for path in draw_results(several[:1], tmp_path)] == ["scores.png"]
    paths = draw_results(several, tmp_path)
    assert [path.name for path in paths] == ["scores-1.png", "scores-2.png", "score-over-ttft.png"]
    assert min(len(set(Image.open(path).convert("L").resize((90, 60)).tobytes())) for path in paths) > 10
    untimed = read_results(write(tmp_path / "c.json", row("x", "acc", 1.0), row("x", "f1", 2.0), ttft_ms=None))
    assert len(draw_results([untimed, *several[:1]], tmp_path)) == 2
    assert [each["metric"] for each in reported_rows(untimed)] == ["acc"]
    human_first = [row("chartqa", "relaxed_human_split", 1.0), row("chartqa", "relaxed_overall", 2.0)]
    assert [each["metric"] for each in reported_rows({"results": human_first})] == ["relaxed_overall"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as results"),
        ("[1]", "no results of `fastvlm evaluate`, but something that is a list"),
        ("{}", "without model, settings, results"),
        ('{"model": "m", "settings": [], "results": []}', "whose settings is a list"),
        ('{"model": "m", "settings": {}, "results": []}', "has no scores"),
        ('{"model": "m", "settings": {}, "results": ["x"]}', "a score that is a str"),
        ('{"model": "m", "settings": {}, "results": [{"task": "x"}]}', "a score without dataset_name"),
    ],
)
def test_files_that_are_no_results_say_what_is_wrong(text, message, tmp_path):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "that is no JSON"),
        ("[1]", "that is a list, not an object"),
        ('{"task": "x"}', "without document, answers"),
        ('{"task": "x", "document": "0", "answers": []}', "whose document is a str"),
        ('{"task": "x", "document": 0, "answers": [1]}', "whose answers are neither texts nor log-likelihoods"),
    ],
)
def test_samples_that_are_none_are_named_by_their_line(line, message, tmp_path):
    path = write(tmp_path / "a.json", row("x", "acc", 50.0), answers={"x": [["A"]]})
    with path.with_suffix(".samples.jsonl").open("a") as file:
        file.write(f"\n{line}")
    with pytest.raises(
        ValueError, match=re.escape(f"line 2, is no sample of `fastvlm evaluate`, but something {message}")
    ):
        differences(path, path)
