"""ONNX files: precisions, pieces, other decoders, and what is refused."""

import copy
import json
from pathlib import Path

import pytest
import torch

from tiny_models import tiny_model, with_shared_encoder
from transformers_fastvlm.export import (
    ExportError,
    ExportSettings,
    export,
    onnx_parts,
    onnx_runtime,
    onnx_writing,
)
from transformers_fastvlm.export.exported_model import ExportedFastVLMForConditionalGeneration
from transformers_fastvlm.export.model_parts import cache_shapes
from transformers_fastvlm.export.onnx_runtime import OnnxRuntime
from transformers_fastvlm.extras import MissingLibraryError
from transformers_fastvlm.outputs_fastvlm import CACHE_NAME

pytest.importorskip("onnxruntime", reason="ONNX exports need the `export` extra")
pytest.importorskip("onnxscript", reason="ONNX exports need the `export` extra")


@pytest.fixture(scope="module")
def traces() -> dict:
    return {}


@pytest.fixture
def traced_once(traces, monkeypatch):
    """Tracing takes most of the time: the same part of the same weights is traced once."""
    import onnx_ir

    def traced(part):
        module = part.module()
        if part.name == "vision_encoder":  # of these, the decoder is no matter
            parts = module.model.model.vision_tower, module.model.model.multi_modal_projector
            module = torch.nn.ModuleList(parts)
        key = str(module), tuple(float(each.double().sum()) for each in module.state_dict().values())
        if key not in traces:
            traces[key] = onnx_ir.to_proto(onnx_parts.traced(part))
        return onnx_ir.from_proto(traces[key])

    monkeypatch.setattr(onnx_writing, "traced", traced)


def exported_as(model, folder: Path, precision: str) -> ExportedFastVLMForConditionalGeneration:
    config, generation_config = copy.deepcopy((model.config, model.generation_config))
    files = list(onnx_writing.write_onnx(model, folder / "onnx", precision))
    settings = {"dtype": onnx_writing.part_dtypes(precision)}
    (folder / "config.json").write_text(json.dumps({"transformers.js_config": settings}))
    assert all(file.pieces == 1 for file in files)
    return ExportedFastVLMForConditionalGeneration(config, generation_config, OnnxRuntime(folder, threads=1))


@pytest.mark.parametrize(("precision", "bound"), [("q8", 0.03), ("q4", 0.4)])
def test_quantized_decoders_beside_an_encoder_stored_in_half(precision, bound, traced_once, tmp_path):
    model = tiny_model(num_hidden_layers=1)
    ids = torch.tensor([[2, 99, 99, 99, 99, 3, 4, 5]])
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(input_ids=ids, pixel_values=pixels).logits
    found = exported_as(model, tmp_path, precision)(input_ids=ids, pixel_values=pixels).logits
    assert 1e-5 < (found - expected).abs().max() / expected.abs().max() < bound


def test_a_decoder_in_half(tmp_path, monkeypatch):
    """Without the encoder, which is as above."""
    parts = onnx_writing.onnx_parts
    monkeypatch.setattr(onnx_writing, "onnx_parts", lambda model: list(parts(model))[1:])
    monkeypatch.setattr(onnx_runtime, "PARTS", ("embed_tokens", "embed_tokens", "decoder_model_merged"))
    model = tiny_model(num_hidden_layers=1)
    ids = torch.tensor([[2, 3, 4, 5]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    found = exported_as(model.half(), tmp_path, "fp16").generate(
        ids, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
    )
    assert found[CACHE_NAME].layers[0].keys.dtype == torch.float16
    difference = (found.logits[0] - expected[:, -1]).abs().max() / expected.abs().max()
    assert 1e-5 < difference < 1e-2


OTHER_DECODERS = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 5.0, "query_pre_attn_scalar": 8},
}


@pytest.mark.parametrize("kind", OTHER_DECODERS)
def test_other_decoders(kind, traced_once, tmp_path):
    model = with_shared_encoder(tiny_model(model_type=kind, **OTHER_DECODERS[kind]))
    exported = exported_as(model, tmp_path, "fp32")
    ids = torch.tensor([[0, 0, 2, 99, 99, 99, 99, 3, 4, 5], [6, 99, 99, 99, 99, 7, 8, 9, 10, 11]])
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.tensor([[0, 0] + [1] * 8, [1] * 10]),
        "pixel_values": torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)),
    }
    assert torch.equal(exported.generate(**inputs, max_new_tokens=6), model.generate(**inputs, max_new_tokens=6))


def test_decoders_that_remember_otherwise_are_refused_by_name(tmp_path):
    mamba = tiny_model(
        model_type="mamba", num_attention_heads=None, num_key_value_heads=None, state_size=4, intermediate_size=64
    )
    with pytest.raises(ExportError, match="type mamba does not remember by keys and values"):
        cache_shapes(mamba)


def test_large_weights_are_in_pieces(traced_once, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_writing, "_PIECE", 20_000)
    model = tiny_model(num_hidden_layers=1)
    files = {file.path.name: file for file in onnx_writing.write_onnx(model, tmp_path / "onnx", "fp32")}
    decoder = files["decoder_model_merged.onnx"]
    assert decoder.pieces > 1
    names = {path.name for path in (tmp_path / "onnx").iterdir() if path.name.startswith("decoder_model_merged.onnx_")}
    wanted = {"decoder_model_merged.onnx_data"}
    assert names == wanted | {f"decoder_model_merged.onnx_data_{index}" for index in range(1, decoder.pieces)}


def test_settings_are_checked_before_anything_is_loaded(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="--to onnx has fp32, fp16, q8, q4, not 'int3'"):
        ExportSettings("x", "onnx", tmp_path / "out", precision="int3")
    with pytest.raises(ValueError, match="--to upstream has fp32, not 'q4'"):
        ExportSettings("x", "upstream", tmp_path / "out", precision="q4")
    monkeypatch.setattr("transformers_fastvlm.extras.is_installed", lambda module: module != "onnxscript")
    with pytest.raises(MissingLibraryError, match=r"needs onnxscript.*transformers-fastvlm\[export\]"):
        export(ExportSettings("no/such", "onnx", tmp_path / "out"))
