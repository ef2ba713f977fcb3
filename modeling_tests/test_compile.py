"""`torch.compile` changes no answer. Needs a C++ compiler, as inductor does."""

import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from conftest import assert_close_to_largest
from test_modeling_fastvlm import GREEDY, inputs_of
from tiny_models import tiny_model

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="torch.compile needs a C++ compiler on CPUs"
)


@torch.no_grad()
def test_compiled_encoder_and_decoder_give_the_same_answers():
    model = tiny_model(vision={"depths": [1, 1, 1, 1, 1]}, num_hidden_layers=1)
    pixels = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    inputs = inputs_of(0, pixels)
    expected_logits = model(**inputs).logits
    expected = model.generate(**inputs, **GREEDY)
    other_image = inputs | {"pixel_values": 1 - inputs["pixel_values"]}
    assert not torch.allclose(model(**other_image).logits, expected_logits)

    whole = CompileCounterWithBackend("inductor")
    compiled = torch.compile(model, fullgraph=True, backend=whole)
    assert_close_to_largest(compiled(**inputs).logits, expected_logits, 1e-4)
    assert whole.frame_count == 1

    encoder = CompileCounterWithBackend("inductor")
    model.model.vision_tower.compile(fullgraph=True, backend=encoder)
    assert torch.equal(model.generate(**inputs, **GREEDY, cache_implementation="static"), expected)
    assert encoder.frame_count == 1
