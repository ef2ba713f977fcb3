"""OpenVINO files: precisions, other decoders, and a memory for every conversation."""

from pathlib import Path

import pytest
import torch

from tiny_models import tiny_model, with_shared_encoder
from transformers_fastvlm.export.exported_model import ExportedFastVLMForConditionalGeneration
from transformers_fastvlm.outputs_fastvlm import CACHE_NAME

pytest.importorskip("openvino", reason="OpenVINO exports need the `inference` extra")
pytest.importorskip("nncf", reason="OpenVINO exports need the `inference` extra")

from transformers_fastvlm.export import openvino_writing
from transformers_fastvlm.export.openvino_runtime import OpenVinoRuntime
from transformers_fastvlm.export.openvino_writing import write_openvino

IDS = torch.tensor([[0, 0, 2, 99, 99, 99, 99, 3, 4, 5], [6, 99, 99, 99, 99, 7, 8, 9, 10, 11]])
INPUTS = {
    "input_ids": IDS,
    "attention_mask": torch.tensor([[0, 0] + [1] * 8, [1] * 10]),
    "pixel_values": torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)),
}


@pytest.fixture(scope="module")
def converted() -> list:
    return []


@pytest.fixture(autouse=True)
def encoder_converted_once(converted, monkeypatch):
    """The same encoder and projector in every model here."""
    convert = openvino_writing.convert_images

    def convert_once(module, encoder):
        if not converted:
            converted.append(convert(module, encoder))
        return converted[0].clone()

    monkeypatch.setattr(openvino_writing, "convert_images", convert_once)


def exported_as(model, folder: Path, precision: str) -> ExportedFastVLMForConditionalGeneration:
    write_openvino(model, folder, precision)
    return ExportedFastVLMForConditionalGeneration(
        model.config, model.generation_config, OpenVinoRuntime(folder, precision, threads=1)
    )


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 0.1), ("int4", 0.4)])
def test_precisions(precision, bound, tmp_path):
    model = with_shared_encoder(tiny_model(num_hidden_layers=1))
    with torch.no_grad():
        expected = model(**INPUTS).logits[:, -1]
    found = exported_as(model, tmp_path, precision)(**INPUTS, logits_to_keep=1).logits[:, -1]
    difference = (found - expected).norm() / expected.norm()
    assert 1e-6 < difference < bound


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("qwen3", {"head_dim": 8}),
        ("gemma2", {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 5.0, "query_pre_attn_scalar": 8}),
    ],
)
def test_other_decoders(kind, settings, tmp_path):
    model = with_shared_encoder(tiny_model(model_type=kind, **settings))
    exported = exported_as(model, tmp_path, "fp32")
    expected = model.generate(**INPUTS, max_new_tokens=6)
    assert torch.equal(exported.generate(**INPUTS, max_new_tokens=6), expected)


def test_conversations_at_once_have_a_memory_each(tmp_path):
    model = with_shared_encoder(tiny_model(num_hidden_layers=1))
    exported = exported_as(model, tmp_path, "fp32")
    prompts = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[7, 8, 9]])
    caches = [exported.runtime.new_cache() for _ in prompts]
    for prompt, cache in zip(prompts, caches):
        exported(input_ids=prompt, **{CACHE_NAME: cache})
    for prompt, cache in zip(prompts, caches):
        whole = torch.cat([prompt, torch.tensor([[10]])], dim=1)
        with torch.no_grad():
            expected = model(input_ids=whole).logits[:, -1]
        found = exported(input_ids=whole[:, -1:], **{CACHE_NAME: cache}).logits[:, -1]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        with pytest.raises(NotImplementedError, match="cannot be made shorter"):
            cache.crop(1)
