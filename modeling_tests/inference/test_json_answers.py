"""Answers that are JSON of a schema."""

import json

import pytest

pytest.importorskip("llguidance", reason="schemas need llguidance (the `schema` extra)")

from chat_rows import picture
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.inference import AnswerOptions, ModelOptions, RunOptions, load_answerer

SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "maxLength": 5}, "many": {"enum": [1, 2]}, "sure": {"type": "boolean"}},
    "required": ["word", "many", "sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def answerer(tmp_path_factory):
    return load_answerer(ModelOptions(str(write_tiny_checkpoint(tmp_path_factory.mktemp("model")))), RunOptions("cpu"))


def answered(answerer, schema, **options):
    content = [{"type": "image", "image": picture()}, {"type": "text", "text": "What is it?"}]
    return answerer.answer([{"role": "user", "content": content}], AnswerOptions(schema=schema, **options))


@pytest.mark.parametrize("seed", range(4))
def test_any_answer_is_of_the_schema(answerer, seed):
    answer = answered(answerer, SCHEMA, temperature=2.0, seed=seed)
    assert answer.finish_reason == "stop"
    value = json.loads(answer.text)
    assert value.keys() == {"word", "many", "sure"}
    assert len(value["word"]) <= 5 and value["many"] in (1, 2) and value["sure"] in (True, False)
    assert answer.text == json.dumps(value, ensure_ascii=False) or "\\" in answer.text


def test_greedy_answers_are_of_it_too(answerer):
    assert json.loads(answered(answerer, {"enum": ["red", "blue"]}).text) in ("red", "blue")
    assert isinstance(json.loads(answered(answerer, {"type": "integer", "minimum": 3, "maximum": 8}).text), int)


def test_what_is_no_schema_is_refused_before_it_begins(answerer):
    for schema in ({"type": "nothing"}, {"type": "object", "$ref": "http://127.0.0.1/schema.json"}):
        with pytest.raises(ValueError, match="No answer can be held to this JSON schema"):
            answered(answerer, schema)
