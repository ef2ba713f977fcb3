"""Answers on disk: what a killed process leaves, other processes' files, and when they are still the model's own."""

import json

import pytest

from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.evaluation import answers
from transformers_fastvlm.evaluation.answers import AnswerStore, fingerprint, is_answer, key_of


def test_what_is_added_is_there_for_the_next_process(tmp_path):
    path = tmp_path / "answers.jsonl"
    AnswerStore(path).add({"a": {"answer": "ü\n"}, "b": [1.5, True]})
    store = AnswerStore(path)
    assert ("a" in store, "c" in store) == (True, False)
    assert (store["a"], store["b"], store.get("c")) == ({"answer": "ü\n"}, [1.5, True], None)


@pytest.mark.parametrize("cut", [1, 10, 25])
def test_a_line_cut_short_is_left_out_and_spoils_none_after_it(tmp_path, cut, monkeypatch):
    warnings = []  # other libraries' logging configurations may have silenced the logger itself
    monkeypatch.setattr(answers.logger, "warning", lambda message, *values: warnings.append(message % values))
    path = tmp_path / "answers.jsonl"
    AnswerStore(path).add({"first": 1, "last": 2})
    path.write_bytes(path.read_bytes()[:-cut])
    store = AnswerStore(path)
    # Without its line end alone, the last record is whole.
    assert ("first" in store, "last" in store) == (True, cut == 1)
    assert [f"{path}: 1 lines cannot be read; their answers are asked for again."] * (cut > 1) == warnings
    store.add({"last": 3, "next": 4})
    again = AnswerStore(path)
    assert [again[key] for key in ("first", "last", "next")] == [1, 3, 4]


DAMAGED = [
    b"nonsense",
    b"\xff\xfe\x00",
    b"[1]",
    b"null",
    b"{}",
    b'{"value": 1}',
    b'{"key": "lost"}',
    b'{"key": ["lost"], "value": 1}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_left_out_wherever_it_is(line, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"key": "a", "value": 1}\n' + line + b'\n{"key": "b", "value": 2}\n')
    store = AnswerStore(path)
    assert (store["a"], store["b"], "lost" in store) == (1, 2, False)


@pytest.mark.parametrize(
    ("record", "kinds"),
    [
        ({"answer": "a", "unreadable": False}, {True}),
        ({"answer": [1.5, True], "unreadable": False}, {False}),
        ({"answer": [1.5], "unreadable": False}, set()),
        ({"answer": ["1.5", True], "unreadable": False}, set()),
        ({"answer": [True, True], "unreadable": False}, set()),
        ({"answer": "a"}, set()),
        ({"answer": None, "unreadable": False}, set()),
        ({"answer": "a", "unreadable": "no"}, set()),
        ("a", set()),
        (None, set()),
    ],
)
def test_answers_have_the_form_of_what_was_asked(record, kinds):
    assert {as_words for as_words in (True, False) if is_answer(record, as_words)} == kinds


def test_names_with_signs_of_patterns_are_names(tmp_path):
    path = tmp_path / "run[1].answers.jsonl"
    AnswerStore(path, rank=1).add({"b": 2})
    assert AnswerStore(path)["b"] == 2


def test_processes_have_files_of_their_own_and_read_all(tmp_path):
    path = tmp_path / "results.answers.jsonl"
    AnswerStore(path, rank=0).add({"a": 1})
    AnswerStore(path, rank=1).add({"b": 2})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results.answers.1.jsonl", "results.answers.jsonl"]
    assert [AnswerStore(path, rank)["b"] for rank in (0, 1, 2)] == [2, 2, 2]


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = AnswerStore()
    store.add({"a": 1})
    assert store["a"] == 1
    assert not list(tmp_path.iterdir())


def test_the_fingerprint_is_of_weights_and_settings_alone(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "model")
    before = fingerprint(str(folder))
    (folder / "results.json").write_text("{}")
    (folder / "README.md").write_text("new")
    assert fingerprint(str(folder)) == before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": []}))
    changed = fingerprint(str(folder))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert len({before, changed, fingerprint(str(folder))}) == 3


def test_a_model_that_is_nowhere_is_named():
    with pytest.raises(OSError, match="no-one/nothing is neither a folder nor"):
        fingerprint("no-one/nothing")


def test_keys_tell_values_apart_and_not_their_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of("a", "b") != key_of("ab")
