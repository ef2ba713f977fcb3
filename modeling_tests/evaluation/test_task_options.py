"""What tasks say of how they are answered."""

import pytest

from transformers_fastvlm.evaluation.task_options import cut_at, generation_options


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ({}, {"max_new_tokens": 1024, "do_sample": False}),
        ({"until": ["ASSISTANT:"], "image_aspect_ratio": "original"}, {"max_new_tokens": 1024, "do_sample": False}),
        ({"max_new_tokens": 16, "temperature": 0, "top_p": 1.0}, {"max_new_tokens": 16, "do_sample": False}),
        ({"temperature": 0, "do_sample": True}, {"max_new_tokens": 1024, "do_sample": False}),
        ({"temperature": 0.7}, {"max_new_tokens": 1024, "do_sample": True, "temperature": 0.7}),
        ({"do_sample": True, "top_k": 5}, {"max_new_tokens": 1024, "do_sample": True, "top_k": 5}),
        ({"num_beams": 3, "top_p": None}, {"max_new_tokens": 1024, "do_sample": False, "num_beams": 3}),
    ],
)
def test_decoding_is_greedy_unless_the_task_asks_for_sampling(task, options):
    assert generation_options(task) == options


def test_answers_end_where_the_task_says():
    assert cut_at("A\n\nB", ["\n\n", "###"]) == "A"
    assert cut_at("A ### B", ("\n\n", "###")) == "A "
    assert cut_at("A B", "B") == "A "
    assert cut_at("A B", ["", "C"]) == "A B"
