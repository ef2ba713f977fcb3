"""The text of tokens as they come, beside decoding all of them at the end."""

import random

import pytest

from helpers_tokenizer import qwen2_tokenizer
from transformers_fastvlm.inference import AnswerText

TEXTS = [
    "Two words",
    "  blanks\n\n and lines\t",
    "Größe 5 µm, 漢字, ไทย, हिन्दी",
    "👩‍👩‍👧‍👦 🇩🇪 é",
    "<think>no</think> <|im",
]


@pytest.fixture(scope="module")
def tokenizer():
    return qwen2_tokenizer(image_token=True)


def pieces_of(answer: AnswerText, ids: list[int]) -> list[str]:
    return [*(answer.push(each) for each in ids), answer.finish()]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_the_text(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    answer = AnswerText(tokenizer)
    pieces = pieces_of(answer, ids)
    assert "".join(pieces) == answer.text == text
    assert "\ufffd" not in text.join(pieces)
    assert answer.token_ids == ids


def test_nothing_waits_for_a_blank(tokenizer):
    assert [AnswerText(tokenizer).push(each) for each in tokenizer("a-b.c!")["input_ids"]] == list("a-b.c!")


@pytest.mark.parametrize("seed", range(8))
def test_any_tokens_give_what_decoding_gives(tokenizer, seed):
    ids = random.Random(seed).choices(range(len(tokenizer)), k=60)
    answer = AnswerText(tokenizer)
    assert "".join(pieces_of(answer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_half_a_character_at_the_end_is_shown_as_one_that_is_unknown(tokenizer):
    ids = tokenizer("ab漢")["input_ids"][:-1]
    assert pieces_of(AnswerText(tokenizer), ids)[-1] == tokenizer.decode(ids)[2:] != ""


@pytest.mark.parametrize(
    ("stop", "text", "stopped"),
    [
        (["END"], "so END more", True),
        (["nowhere"], "so it goes", False),
        (["END", " E"], "so END", True),
        (["."], "One. Two.", True),
        (["so"], "so", True),
        (["ab漢"], "x ab漢 y", True),
        (["aab"], "aaab", True),
        (["goes on"], "so it goes", False),
    ],
)
def test_a_stop_text_ends_it_and_is_never_shown(tokenizer, stop, text, stopped):
    answer = AnswerText(tokenizer, stop)
    expected = text[: min([text.find(each) for each in stop if each in text], default=len(text))]
    shown = ""
    for token_id in tokenizer(text)["input_ids"]:
        shown += answer.push(token_id)
        assert expected.startswith(shown)
    shown += answer.finish()
    assert shown == answer.text == expected
    assert answer.is_stopped is stopped


def test_only_what_may_begin_a_stop_text_waits(tokenizer):
    answer = AnswerText(tokenizer, ["xyz"])
    ids = tokenizer("axybxyz")["input_ids"]
    assert [answer.push(each) for each in ids] == ["a", "", "", "xyb", "", "", ""]
    assert answer.is_stopped
    assert len(answer.token_ids) == len(ids)
