"""The application scenarios, run as users run them, without arguments and with."""

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

import pytest

for library in ("datasets", "evaluate", "pyarrow", "rapidfuzz", "sklearn"):
    pytest.importorskip(library, reason=f"the examples need {library} (the `evaluation` extra)")

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "checkpoints" / "tiny-reader" / "images"


def run_here(script: str, *arguments: object) -> list[str]:
    """The lines that a script prints, in this process, whose imports are done."""
    path = ROOT / "examples" / script
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))
        patch.setattr(sys, "argv", list(map(str, [path, *arguments])))
        spec.loader.exec_module(module)
        module.main()
    return output.getvalue().splitlines()


@pytest.mark.parametrize(
    "script",
    ["visual_question_answering", "captioning", "document_questions", "image_text_matching", "recommendation"],
)
def test_a_script_starts_with_its_command_and_is_short(script):
    text = (ROOT / "examples" / f"{script}.py").read_text()
    assert f"\n    python examples/{script}.py\n" in text
    assert f"\n    python examples/{script}.py --model apple/FastVLM-0.5B" in text
    assert len(text.splitlines()) < 80


def test_questions_about_one_image_are_answered_as_one_by_one():
    lines = run_here("visual_question_answering.py")
    assert [line.split()[-1] for line in lines[:2]] == ["yellow", "purple"]
    question = "Which colour is the square?"
    assert run_here("visual_question_answering.py", "--question", question) == lines[1:2]


def test_captions_of_a_folder_load_as_an_image_folder(tmp_path):
    for name in ("sign.png", "label.png"):
        (tmp_path / name).write_bytes((IMAGES / name).read_bytes())
    run_here("captioning.py", "--folder", tmp_path, "--output", tmp_path / "metadata.jsonl", "--batch-size", 1)
    from datasets import load_dataset

    data = load_dataset("imagefolder", data_dir=str(tmp_path))["train"]
    assert sorted(data["text"]) == ["2026", "HELLO"]
    expected = {"label.png": "2026", "sign.png": "HELLO"}
    found = {row["file_name"]: row["text"] for row in map(json.loads, run_here("captioning.py"))}
    assert found.items() >= expected.items()


def test_the_surest_page_answers():
    pages = ["--page", IMAGES / "plate.png", "--page", IMAGES / "sign.png"]
    *found, answer, score = run_here("document_questions.py", *pages, "--expected", "HELLO", "--expected", "7F2C9")
    certainty = {line.split()[1]: float(line.split()[2].rstrip("%")) for line in found}
    assert set(certainty) == {"7F2C9", "HELLO"}
    assert answer == f"Answer: {max(certainty, key=certainty.get)}"
    assert score == "ANLS: 1.00"


def test_the_likeliest_text_is_the_one_in_the_image():
    _, *rows = run_here("image_text_matching.py")
    assert [(row.split()[0], row.split()[-1]) for row in rows] == [
        ("label.png", "2026"),
        ("plate.png", "7F2C9"),
        ("sign.png", "HELLO"),
    ]
    assert all(
        sum(float(share.rstrip("%")) for share in row.split()[1:-1]) == pytest.approx(100, abs=0.5) for row in rows
    )


def test_recommendations_weigh_image_and_text(tmp_path):
    assert len(run_here("recommendation.py")) == 4
    lines = [
        json.dumps({"file_name": str(IMAGES / name), "text": text})
        for name, text in (("sign.png", "a cat"), ("star.png", "HELLO"), ("label.png", "7F2C9"))
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    asked = [
        "--catalogue",
        tmp_path / "metadata.jsonl",
        "--image",
        IMAGES / "sign.png",
        "--text",
        "HELLO",
        "--count",
        1,
    ]
    (by_image,) = run_here("recommendation.py", *asked, "--image-weight", 1)
    (by_text,) = run_here("recommendation.py", *asked, "--image-weight", 0)
    assert by_image.split()[:2] == ["1.000", "sign.png"]
    assert by_text.split()[:2] == ["1.000", "star.png"]
