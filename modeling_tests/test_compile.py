"""`torch.compile` changes no answer. Needs a C++ compiler, as inductor does."""

import shutil

import pytest
import torch

from conftest import assert_close_to_largest
from test_modeling_fastvlm import GREEDY, PROMPTS, inputs_of
from tiny_models import tiny_model

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="torch.compile needs a C++ compiler on CPUs"
)


@torch.no_grad()
def test_compiled_encoder_and_decoder_give_the_same_answers():
    model = tiny_model()
    pixels = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    inputs = inputs_of(0, pixels)
    expected_logits = model(**inputs).logits
    expected = model.generate(**inputs, **GREEDY)
    compiled = torch.compile(model, fullgraph=True)
    assert_close_to_largest(compiled(**inputs).logits, expected_logits, 1e-4)
    model.model.vision_tower.compile(fullgraph=True)
    assert torch.equal(model.generate(**inputs, **GREEDY, cache_implementation="static"), expected)
    assert len(PROMPTS[0]) + GREEDY["max_new_tokens"] == expected.shape[1]
