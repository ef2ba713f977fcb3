"""The script behind the committed data, and the data."""

import sys
from pathlib import Path

import pytest

for library in ("datasets", "pyarrow", "sklearn", "peft", "accelerate"):
    pytest.importorskip(library, reason=f"making the data needs {library} (the `evaluation` and `train` extras)")

import datasets

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "examples" / "tiny_reader"))

import make_tiny_evaluation
from tiny_reader_data import is_held_out

DATA = ROOT / "checkpoints" / "tiny-reader" / "evaluation"
TASKS = ("reading", "counting", "colours", "digits", "matching", "retrieval")


def read(folder: Path, name: str) -> datasets.Dataset:
    return datasets.Dataset.from_parquet(str(folder / f"{name}.parquet"))


def test_the_committed_data_is_small_and_held_out():
    assert sum(path.stat().st_size for path in DATA.glob("*.parquet")) <= 3_000_000
    assert {path.stem for path in DATA.glob("*.parquet")} == set(TASKS)
    for name in ("reading", "matching"):
        data = read(DATA, name)
        words = data["answer"] if name == "reading" else [row["choices"][row["label"]] for row in data]
        assert all(is_held_out(word) or len(word) == 1 for word in words)
    assert set(read(DATA, "digits")["answer"]) == set("0123456789")
    for row in read(DATA, "matching"):
        assert len(set(row["choices"])) == 4
        truth = row["choices"][row["label"]]
        assert {sum(a != b for a, b in zip(choice, truth)) for choice in row["choices"]} == {0, 1}


def test_every_document_has_an_image_that_can_be_read():
    for name in TASKS:
        for row in read(DATA, name):
            images = row["images"] if name == "retrieval" else [row["image"]]
            assert {image.size for image in images} == {(8, 8) if name == "digits" else (192, 192)}
            assert name != "retrieval" or len(images) == 11


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[Path]:
    """The same small data twice."""
    folders = [tmp_path_factory.mktemp("data") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        for folder in folders:
            patch.setattr(sys, "argv", ["make_tiny_evaluation.py", "--output_dir", str(folder), "--count", "12"])
            make_tiny_evaluation.main()
    return folders


def test_the_script_makes_the_same_data_each_time(made):
    for name in TASKS:
        first, second = ((folder / f"{name}.parquet").read_bytes() for folder in made)
        assert first == second, name
        assert read(made[0], name).features == read(DATA, name).features


def test_the_answer_of_retrieval_is_the_image_with_the_same_word(made):
    data = read(made[0], "retrieval")
    assert [row["answer"] for row in data] == [str(index) for index in range(10)]
    # Drawn otherwise: no candidate is the query itself.
    for row in data.cast_column("images", datasets.List(datasets.Image(decode=False))):
        query, *candidates = (image["bytes"] for image in row["images"])
        assert query not in candidates
        assert len(set(candidates)) == 10
