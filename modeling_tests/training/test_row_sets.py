"""The rows of a training: what is kept for evaluation, and what is mixed in."""

import json

import pytest

from chat_rows import make_processor, picture
from transformers_fastvlm.training import DataArguments
from transformers_fastvlm.training.row_sets import load_row_sets, with_replay

pytest.importorskip("datasets", reason="data sets are read with `datasets` (the `train` extra)")
pytest.importorskip("accelerate.utils", reason="processes share the checking through accelerate (the `train` extra)")


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture
def folder(tmp_path):
    picture().save(tmp_path / "it.png")
    for name, count in (("train", 40), ("other", 3)):
        rows = [{"question": f"{name} {index}?", "answer": "A cat", "image": "it.png"} for index in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def asked(rows) -> list[str]:
    return [row["question"] for row in rows]


def test_a_share_is_kept_for_evaluation(folder, processor):
    told = []
    sets = load_row_sets(DataArguments(str(folder / "train.jsonl")), processor, 0.1, told.append)
    assert (len(sets.train), len(sets.evaluation)) == (36, 4)
    assert not set(asked(sets.train)) & set(asked(sets.evaluation))
    assert told[0] == "train: questions and answers in `question`, `answer`, images in `image`"
    assert told[1] == "train: 36 rows, 0 left out"
    again = load_row_sets(DataArguments(str(folder / "train.jsonl")), processor, 0.1, told.append)
    assert asked(again.evaluation) == asked(sets.evaluation)


def test_other_rows_may_be_the_evaluation(folder, processor):
    data = DataArguments(str(folder / "train.jsonl"))
    sets = load_row_sets(data, processor, DataArguments(str(folder / "other.jsonl")))
    assert (len(sets.train), len(sets.evaluation)) == (40, 3)


def test_one_row_cannot_be_both(folder, processor):
    data = DataArguments(str(folder / "train.jsonl"), max_samples=1)
    with pytest.raises(ValueError, match="has one row"):
        load_row_sets(data, processor, 0.5)


def test_a_stream_is_checked_as_it_is_read(folder, processor):
    data = DataArguments(str(folder / "train.jsonl"), streaming=True)
    sets = load_row_sets(data, processor, 0.1)
    assert sets.evaluation is None
    assert sets.report.checked == 0
    assert len(asked(sets.train)) == sets.report.checked == 40


@pytest.mark.parametrize(("share", "count"), [(0.2, 10), (0.05, 2)])
def test_replayed_rows_are_the_share_that_is_asked_for(share, count, folder, processor):
    data = DataArguments(str(folder / "train.jsonl"))
    train = load_row_sets(data, processor, DataArguments(str(folder / "other.jsonl"))).train
    mixed = with_replay(train, str(folder / "other.jsonl"), share, data, processor)
    replayed = [row["question"] for row in mixed if row["question"].startswith("other")]
    assert len(mixed) == 40 + count
    assert len(replayed) == count
    assert max(map(replayed.count, set(replayed))) - min(map(replayed.count, set(replayed))) <= 1


def test_replay_needs_rows_that_can_be_counted(folder, processor):
    data = DataArguments(str(folder / "train.jsonl"), streaming=True)
    with pytest.raises(ValueError, match="not streamed"):
        with_replay([], str(folder / "other.jsonl"), 0.2, data, processor)
