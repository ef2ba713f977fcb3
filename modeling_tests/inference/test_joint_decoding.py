# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Answers made together: each as `generate` makes it alone, whoever joins and leaves."""

import pytest
from PIL import Image

from transformers_fastvlm.inference import AnswerOptions, ModelOptions, RunOptions, load_answerer
from transformers_fastvlm.inference.answerer import Answer
from transformers_fastvlm.inference.joint_decoding import JointAnswer, JointDecoder
from transformers_fastvlm.inference.model_options import bundled_checkpoint

IMAGES = "cat.jpg", "sign.png", "plate.png", "label.png"
GREEDY = AnswerOptions()


@pytest.fixture(scope="module")
def answerer():
    return load_answerer(ModelOptions(bundled_checkpoint()), RunOptions("cpu"))


def asking(*names: str, words: str = "What does it say?") -> list[dict]:
    folder = f"{bundled_checkpoint()}/images"
    images = [{"type": "image", "image": Image.open(f"{folder}/{name}")} for name in names]
    return [{"role": "user", "content": [*images, {"type": "text", "text": words}]}]


class Joint:
    """An answer that is made together with others, and what came of it."""

    def __init__(self, answerer, messages, options=GREEDY, **more):
        self.events = []
        self.work = JointAnswer(answerer, messages, options, self.events.append, **more)

    @property
    def answer(self) -> Answer:
        *pieces, answer = self.events
        assert "".join(pieces) == answer.text
        return answer


def decoded(decoder: JointDecoder) -> int:
    """How many steps it took."""
    steps = 0
    while decoder.answers:
        decoder.step()
        steps += 1
    return steps


def same(ours: Answer, theirs: Answer) -> bool:
    return all(
        getattr(ours, name) == getattr(theirs, name) for name in ("text", "finish_reason", "tokens", "prompt_tokens")
    )


def test_a_batch_is_answered_as_by_generate_in_the_steps_of_its_longest(answerer):
    conversations = [*map(asking, IMAGES), asking(words="Hello"), asking(*IMAGES[:2])]
    alone = [answerer.answer(each) for each in conversations]
    joint = [Joint(answerer, each) for each in conversations]
    decoder = JointDecoder(answerer.model)
    decoder.add([each.work for each in joint])
    assert decoded(decoder) == max(each.tokens for each in alone) - 1
    assert all(map(same, (each.answer for each in joint), alone))


def test_others_join_and_leave_in_between(answerer):
    conversations = [*map(asking, IMAGES), asking(words="Hello there")]
    alone = [answerer.answer(each) for each in conversations]
    joint = [Joint(answerer, each) for each in conversations]
    decoder = JointDecoder(answerer.model)
    for each in joint:
        decoder.add([each.work])
        decoder.step()
    decoded(decoder)
    assert all(map(same, (each.answer for each in joint), alone))


def test_options_are_each_answers_own(answerer):
    options = [
        AnswerOptions(temperature=1.5, seed=3),
        AnswerOptions(temperature=0.7, top_p=0.9, seed=4),
        AnswerOptions(stop=("LL",)),
        AnswerOptions(max_new_tokens=2),
    ]
    alone = [answerer.answer(asking("sign.png"), each) for each in options]
    joint = [Joint(answerer, asking("sign.png"), each) for each in options]
    decoder = JointDecoder(answerer.model)
    decoder.add([each.work for each in joint])
    decoded(decoder)
    assert all(map(same, (each.answer for each in joint), alone))


def test_settings_of_the_checkpoint_count(answerer, monkeypatch):
    monkeypatch.setattr(answerer.model.generation_config, "repetition_penalty", 50.0)
    alone = answerer.answer(asking("sign.png"))
    joint = Joint(answerer, asking("sign.png"))
    decoder = JointDecoder(answerer.model)
    decoder.add([joint.work])
    decoded(decoder)
    assert same(joint.answer, alone)
    assert alone.text != "HELLO"


def test_one_that_fails_does_not_fail_the_others(answerer):
    good, bad = (Joint(answerer, asking("sign.png")) for _ in range(2))
    bad.work.inputs["pixel_values"][:] = float("nan")
    decoder = JointDecoder(answerer.model)
    decoder.add([bad.work, good.work])
    decoded(decoder)
    assert isinstance(bad.events[-1], ValueError)
    assert good.answer.text == "HELLO"


def test_a_cancelled_answer_and_one_out_of_time_end_at_the_next_token(answerer):
    cancelled, good = (Joint(answerer, asking("sign.png")) for _ in range(2))
    late = Joint(answerer, asking("sign.png"), seconds=1e-6)
    decoder = JointDecoder(answerer.model)
    decoder.add([cancelled.work, good.work, late.work])
    cancelled.work.cancel()
    decoder.step()
    assert cancelled.answer.finish_reason == "cancelled"
    assert isinstance(late.events[-1], TimeoutError)
    assert decoder.answers == [good.work]
    decoded(decoder)
    assert good.answer.text == "HELLO"


def test_an_answer_that_is_over_holds_no_tensors(answerer):
    joint = Joint(answerer, asking("sign.png"))
    decoder = JointDecoder(answerer.model)
    decoder.add([joint.work])
    assert "pixel_values" not in joint.work.inputs
    decoded(decoder)
    assert not joint.work.inputs
    assert decoder._cache is None


def test_a_prompt_past_the_context_is_refused(answerer):
    with pytest.raises(ValueError, match="the decoder's context is 1024"):
        Joint(answerer, asking(words="word " * 3000))
