"""`torch.export` with dynamic sizes, of encoder, model and decode step, and transformers' exporter.

PyTorch takes a last grid of one row or column for a case of its own, so sizes here have at least two.
"""

import copy

import pytest
import torch
from torch.export import Dim, export
from transformers import StaticCache
from transformers.exporters.configs import DynamoConfig
from transformers.exporters.exporter_dynamo import DynamoExporter, register_cache_pytrees_for_model

from tiny_models import IMAGE_TOKEN_ID, randomize, tiny_model, tiny_vision_config
from transformers_fastvlm import FastViTHDModel
from transformers_fastvlm.outputs_fastvlm import CACHE_NAME

IMAGES = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
TOKENS = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}


def inputs_of(batch: int, rows: int, columns: int, words: int) -> dict[str, torch.Tensor]:
    """Prompts with an image of so many cells each, and some words."""
    generator = torch.Generator().manual_seed(batch + rows)
    prompt = [2, *[IMAGE_TOKEN_ID] * (rows * columns), *range(3, 3 + words)]
    ids = torch.tensor([prompt] * batch)
    pixels = torch.rand(batch, 3, 64 * rows, 64 * columns, generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


@pytest.mark.parametrize("reparameterized", [True, False])
@torch.no_grad()
def test_encoder(reparameterized):
    model = randomize(FastViTHDModel(tiny_vision_config(reparameterized=reparameterized))).eval()
    program = export(model, (), {"pixel_values": torch.rand(2, 3, 128, 192)}, dynamic_shapes={"pixel_values": IMAGES})
    for shape in ((1, 3, 128, 128), (3, 3, 256, 128), (2, 3, 192, 320)):
        pixels = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        exported = program.module()(pixel_values=pixels)
        torch.testing.assert_close(exported.last_hidden_state, model(pixels).last_hidden_state, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_model():
    model = tiny_model(use_cache=False)
    shapes = {"input_ids": TOKENS, "attention_mask": TOKENS, "pixel_values": IMAGES}
    program = export(model, (), inputs_of(2, 2, 3, 4), dynamic_shapes=shapes, strict=False)
    for sizes in ((1, 2, 2, 7), (3, 3, 2, 1)):
        inputs = inputs_of(*sizes)
        torch.testing.assert_close(program.module()(**inputs).logits, model(**inputs).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_decode_step_with_a_static_cache():
    model = tiny_model()
    inputs = inputs_of(2, 2, 2, 3)
    length = inputs["input_ids"].shape[1]
    cache = StaticCache(config=model.config.text_config, max_cache_len=32)
    model(**inputs, **{CACHE_NAME: cache})
    register_cache_pytrees_for_model(model)
    step = {"input_ids": torch.tensor([[5], [6]]), "position_ids": torch.full((2, 1), length), CACHE_NAME: cache}
    program = export(model, (), copy.deepcopy(step), strict=False)
    expected = model(**copy.deepcopy(step)).logits
    torch.testing.assert_close(program.module()(**copy.deepcopy(step)).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_exporter_of_transformers(dynamic):
    model = tiny_model(use_cache=False)
    inputs = inputs_of(2, 2, 3, 4)
    exported = DynamoExporter().export(model, dict(inputs), DynamoConfig(dynamic=dynamic))
    program = exported if hasattr(exported, "module") else exported.program  # before 5.17, the program itself
    with torch.no_grad():
        expected, answer = model(**inputs).logits, program.module()(**inputs)
    torch.testing.assert_close(answer["logits"], expected, atol=1e-4, rtol=1e-4)


def test_exporter_of_transformers_takes_generation_apart():
    parts = DynamoExporter().export_for_generation(tiny_model(), inputs_of(1, 2, 2, 3), DynamoConfig())
    parts = getattr(parts, "components", parts)
    assert "decode" in parts
