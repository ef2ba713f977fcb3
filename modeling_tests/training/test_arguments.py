"""Options of training scripts become formats and rows."""

import json

import pytest
from transformers import HfArgumentParser

from transformers_fastvlm.training import DataArguments, ImageAccess, RowFormat


def parsed(*words: str) -> DataArguments:
    (arguments,) = HfArgumentParser(DataArguments).parse_args_into_dataclasses(list(words))
    return arguments


def test_without_options_rows_are_recognised():
    assert parsed("--dataset", "x").row_format == RowFormat()


def test_options_are_those_of_the_format():
    words = "--dataset x --layout question --messages_column talk --images_column photo --max_length 9 --too_long drop"
    words += " --allow_urls --allow_outside --question Why?"
    expected = RowFormat("talk", "photo", "question", "Why?", ImageAccess(urls=True, outside=True), 9, "drop")
    assert parsed(*words.split()).row_format == expected


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("wanted", "read"), [(2, 2), (9, 3), (None, 3)])
def test_no_more_rows_than_are_asked_for(streaming, wanted, read, tmp_path):
    pytest.importorskip("datasets", reason="data sets are read with `datasets` (the `train` extra)")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": str(index), "answer": "A"}) + "\n" for index in range(3)))
    rows = list(DataArguments(str(path), max_samples=wanted, streaming=streaming).load())
    assert [row["question"] for row in rows] == [str(index) for index in range(read)]


def test_values_that_cannot_be():
    with pytest.raises(ValueError, match="max_samples"):
        DataArguments("x", max_samples=0)
    with pytest.raises(ValueError, match="Unknown layout"):
        _ = DataArguments("x", layout="poem").row_format
