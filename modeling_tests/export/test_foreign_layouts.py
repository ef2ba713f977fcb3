"""The authors' layout and upstream's: names and settings as those have them, the same tensors, the same scores."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner

from helpers_tokenizer import qwen2_tokenizer
from tiny_models import adapter_for, write_tiny_checkpoint
from transformers_fastvlm import FastVLMConfig, FastVLMForConditionalGeneration, FastVLMProcessor
from transformers_fastvlm.checkpoint_formats import ORIGINAL, UPSTREAM, to_own_name
from transformers_fastvlm.cli import app
from transformers_fastvlm.export import ExportError, ExportSettings, export, targets
from transformers_fastvlm.export.foreign_layouts import foreign_name, require_layout_fits
from transformers_fastvlm.inference.fixed_inputs import fixed_inputs, last_logits
from transformers_fastvlm.quantization import quantization_config


@pytest.fixture(scope="module")
def original(original_folder, tmp_path_factory) -> Path:
    """An original checkpoint with its tokenizer, at a resolution that takes less time."""
    folder = tmp_path_factory.mktemp("with_tokenizer")
    qwen2_tokenizer(151643, padding_side="right").save_pretrained(folder)
    (folder / "model.safetensors").symlink_to(original_folder / "model.safetensors")
    config = json.loads((original_folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mm_vision_tower": "mobileclip_l_256"}))
    return folder


@pytest.fixture(scope="module")
def exported(original, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    return {to: export(ExportSettings(str(original), to, folder / to)).folder for to in ("original", "upstream")}


@pytest.mark.parametrize("form", ["tensor_shapes", "tensor_shapes_training_form"])
def test_every_name_of_the_original_comes_back(form, golden):
    names = json.loads((golden / "original" / f"{form}.json").read_text())
    assert len(names) > 600
    for name in names:
        assert foreign_name(to_own_name(name), ORIGINAL) == name


def test_upstreams_names_are_those_of_its_class():
    pytest.importorskip("timm", reason="transformers' own FastVLM runs timm's encoder")
    pytest.importorskip("torchvision", reason="timm needs torchvision")
    from transformers import FastVlmConfig

    with torch.device("meta"):
        theirs = AutoModelForImageTextToText.from_config(FastVlmConfig())
        ours = FastVLMForConditionalGeneration(FastVLMConfig())
    names = {
        foreign_name(name, UPSTREAM) for name in ours.state_dict() if not name.endswith("vision_tower.projection")
    }
    # Their encoder is in the training form, which a checkpoint's settings change.
    strangers = {name for name in names - set(theirs.state_dict()) if ".reparam_conv." not in name}
    assert not strangers


def test_an_original_comes_back_tensor_for_tensor(original, exported):
    before, after = (load_file(folder / "model.safetensors") for folder in (original, exported["original"]))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], tensor), name
    settings = [json.loads((folder / "config.json").read_text()) for folder in (original, exported["original"])]
    # The dtype is that of what is stored; a window that is not used, transformers does not keep.
    given = settings[0].keys() - {"transformers_version", "mm_projector_lr", "torch_dtype", "sliding_window"}
    assert {key: settings[1].get(key) for key in given} == {key: settings[0][key] for key in given}


def test_nothing_of_this_machine_is_in_the_settings(original, exported):
    for folder in exported.values():
        for path in folder.glob("*.json"):
            assert str(original.parent) not in path.read_text(), path


def test_what_was_exported_gives_the_same_scores(original, exported):
    model = FastVLMForConditionalGeneration.from_pretrained(original, dtype=torch.float32).eval()
    expected = last_logits(model, inputs_of(original))
    for folder in exported.values():
        model = FastVLMForConditionalGeneration.from_pretrained(folder, dtype="auto").eval()
        assert model.dtype == torch.float32  # as they are stored
        torch.testing.assert_close(last_logits(model, inputs_of(folder)), expected, atol=1e-5, rtol=1e-5)


def inputs_of(folder: Path) -> dict[str, torch.Tensor]:
    return fixed_inputs(FastVLMProcessor.from_pretrained(folder))


def test_transformers_own_class_reads_upstreams_layout(original, exported):
    pytest.importorskip("timm", reason="transformers' own FastVLM runs timm's encoder")
    pytest.importorskip("torchvision", reason="timm needs torchvision")
    from transformers import FastVlmForConditionalGeneration

    theirs, info = FastVlmForConditionalGeneration.from_pretrained(
        exported["upstream"], dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours = FastVLMForConditionalGeneration.from_pretrained(original, dtype=torch.float32).eval()
    inputs = inputs_of(original)
    expected = last_logits(ours, inputs)
    difference = (last_logits(theirs.eval(), inputs) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-4


def test_an_adapter_is_merged(original, tmp_path):
    own = tmp_path / "own"
    FastVLMForConditionalGeneration.from_pretrained(original, dtype=torch.float32).save_pretrained(own)
    FastVLMProcessor.from_pretrained(original).save_pretrained(own)
    adapted = adapter_for(own, tmp_path / "adapter")
    expected = last_logits(adapted, inputs_of(own))
    export(ExportSettings(str(own), "original", tmp_path / "out", adapter=str(tmp_path / "adapter")))
    model = FastVLMForConditionalGeneration.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    torch.testing.assert_close(last_logits(model, inputs_of(tmp_path / "out")), expected, atol=1e-4, rtol=1e-4)


def test_other_encoders_and_decoders_are_refused_by_name_and_nothing_is_left(tmp_path):
    tiny = write_tiny_checkpoint(tmp_path / "tiny")
    with pytest.raises(ExportError, match="FastViTHD as encoder, with depths"):
        export(ExportSettings(str(tiny), "original", tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]
    llama = FastVLMConfig(text_config={"model_type": "llama"}, image_token_id=5)
    with pytest.raises(ExportError, match="Qwen2 as decoder, not llama"):
        require_layout_fits(llama)
    with pytest.raises(ExportError, match="GELU and biases"):
        require_layout_fits(FastVLMConfig(projector_bias=False))


@pytest.mark.parametrize("to", ["original", "openvino"])
def test_quantized_weights_are_refused_and_nothing_is_left(to, tmp_path):
    for library in ("bitsandbytes", "openvino", "nncf"):
        pytest.importorskip(library, reason="weights of few bits and OpenVINO need `quantization` and `inference`")
    tiny = write_tiny_checkpoint(tmp_path / "tiny")
    scheme = quantization_config("nf4")
    quantized = FastVLMForConditionalGeneration.from_pretrained(tiny, quantization_config=scheme)
    quantized.save_pretrained(tmp_path / "nf4")
    FastVLMProcessor.from_pretrained(tiny).save_pretrained(tmp_path / "nf4")
    with pytest.raises(ExportError, match="weights are quantized: export what they were made from"):
        export(ExportSettings(str(tmp_path / "nf4"), to, tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nf4", "tiny"]


def test_what_differs_is_not_kept(original, tmp_path, monkeypatch):
    tensors = targets.foreign_tensors

    def wrong(model, layout):
        found = tensors(model, layout)
        return found | {"model.norm.weight": found["model.norm.weight"] + 1}

    monkeypatch.setattr(targets, "foreign_tensors", wrong)
    with pytest.raises(ExportError, match="its scores by"):
        export(ExportSettings(str(original), "original", tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_settings_are_checked(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for to, output, message in (
        ("nonsense", "new", "Unknown target 'nonsense'"),
        ("original", "full", "is there already, and not empty"),
        ("original", "no/such/folder", "there is no folder"),
    ):
        with pytest.raises(ValueError, match=message):
            ExportSettings("x", to, tmp_path / output)


def test_the_command(original, tmp_path):
    done = CliRunner().invoke(app, ["export", str(original), "--to", "original", "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "Its scores differ by 0.0e+00 of their length" in " ".join(done.output.split())
    shutil.rmtree(tmp_path / "out")
    again = CliRunner().invoke(app, ["export", "no/such", "--to", "original", "--output", str(tmp_path / "out")])
    assert again.exit_code != 0
    assert not (tmp_path / "out").exists()
