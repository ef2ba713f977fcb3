"""Rows as questions, and greedy answers to them, one by one as in a batch."""

import pytest
import torch

from chat_rows import make_processor, picture, turns
from tiny_models import tiny_model
from transformers_fastvlm.training import RowError, RowFormat
from transformers_fastvlm.training.row_questions import answer_questions, read_question

ROWS = [
    {"messages": turns("What is it?", "A cat."), "images": [picture()]},
    {"messages": turns("Which?", "This.", "Sure?", "Yes."), "images": [picture(60, 90)]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
    {"question": "How many?", "answers": ["2", "3", "3"], "image": picture(50, 50)},
]


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def model(processor):
    model = tiny_model(vocab_size=len(processor.tokenizer), max_position_embeddings=512)
    model.config.image_token_id = processor.image_token_id
    return model


def questions(processor):
    return [read_question(row, RowFormat(), "<image>", index) for index, row in enumerate(ROWS)]


def test_the_last_answer_is_the_truth_and_not_in_the_prompt(processor):
    first, second, third, fourth = questions(processor)
    assert [first.truths, second.truths, third.truths] == [("A cat.",), ("Yes.",), ("Hello!",)]
    assert fourth.truths == ("3", "3", "2")
    assert [message["role"] for message in second.messages] == ["user", "assistant", "user"]
    assert [len(each.images) for each in (first, second, third, fourth)] == [1, 1, 0, 1]
    assert first.place == "row 0"
    assert read_question({**ROWS[0], "source_line": 7}, RowFormat(), "<image>").place == "line 7"


def test_images_of_later_turns_are_left_out(processor):
    messages = [
        {"role": "user", "content": "<image>One?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "<image>Two?"},
    ]
    row = {"messages": messages, "images": [picture(), picture(60, 60)]}
    with_end = {**row, "messages": [*messages, {"role": "assistant", "content": "No."}]}
    assert len(read_question(with_end, RowFormat(), "<image>").images) == 2
    found = read_question(row, RowFormat(), "<image>")
    assert len(found.images) == 1
    assert found.truths == ("Yes.",)


def test_an_answer_without_a_question_is_refused(processor):
    row = {"messages": [{"role": "assistant", "content": "Hello!"}]}
    with pytest.raises(RowError, match="no question before it"):
        read_question(row, RowFormat(), "<image>")


def test_a_batch_is_answered_as_its_rows_one_by_one(processor, model):
    asked = questions(processor)
    together = answer_questions(model, processor, asked, max_new_tokens=4)
    assert together == [answer_questions(model, processor, [each], max_new_tokens=4)[0] for each in asked]
    assert [each.question for each in together] == ["What is it?", "Sure?", "Hi", "How many?"]
    assert any(each.answer for each in together)


def test_answers_are_those_of_generate(processor, model):
    prompt = processor.apply_chat_template(turns("What is it?")[:1], add_generation_prompt=True, tokenize=False)
    inputs = processor(text=prompt, images=picture(), return_tensors="pt")
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    text = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer_questions(model, processor, questions(processor)[:1], 4)[0].answer == text.strip()


def test_a_model_that_trains_goes_on_training(processor, model):
    model.train()
    answer_questions(model, processor, questions(processor)[:1], max_new_tokens=1)
    assert model.training
    model.eval()
