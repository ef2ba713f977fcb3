"""4-bit and 8-bit weights: what is quantized, how close it stays, and that it survives saving."""

import pytest
import torch
from torch import nn
from transformers import BitsAndBytesConfig, TorchAoConfig

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, write_tiny_checkpoint
from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.quantization import quantization_config

BITSANDBYTES = ("nf4", "fp4", "bnb-int8")
TORCHAO = ("int8", "int8-dynamic")
INPUTS = {
    "input_ids": torch.tensor([[5, *[IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE, 7, 8]]),
    "pixel_values": torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    text = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), **text)


def load(folder, scheme: str | None, **options):
    pytest.importorskip(
        "accelerate.utils", reason="transformers quantizes through accelerate (the `quantization` extra)"
    )
    if scheme in BITSANDBYTES:
        pytest.importorskip("bitsandbytes", reason="its schemes need bitsandbytes (the `quantization` extra)")
    if scheme in TORCHAO:
        pytest.importorskip("torchao", reason="its schemes need torchao (the `quantization` extra)")
    # None would take the place of what a quantized checkpoint's configuration says.
    given = {} if scheme is None else {"quantization_config": quantization_config(scheme, torch.float32, **options)}
    return AutoModelForVision2Seq.from_pretrained(folder, dtype=torch.float32, **given).eval()


def inputs(model) -> dict:
    ids = INPUTS["input_ids"]
    return INPUTS | {"input_ids": ids.masked_fill(ids == IMAGE_TOKEN_ID, model.config.image_token_id)}


def quantized_names(model) -> set[str]:
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and (type(module) is not nn.Linear or type(module.weight.data) is not torch.Tensor)
    }


@pytest.mark.parametrize("scheme", [*BITSANDBYTES, *TORCHAO])
def test_the_decoders_layers_are_quantized_and_no_others(scheme, folder):
    model = load(folder, scheme)
    expected = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("model.language_model.")
    }
    assert len(expected) == 14
    assert quantized_names(model) == expected


@pytest.mark.parametrize("kind", ["object", "dictionary", "torchao"])
def test_configurations_that_skip_nothing_get_the_same_list(kind, folder):
    expected = quantized_names(load(folder, "int8" if kind == "torchao" else "nf4"))
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    if kind == "dictionary":
        config = config.to_dict()
    elif kind == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig

        config = TorchAoConfig(Int8WeightOnlyConfig())
    model = AutoModelForVision2Seq.from_pretrained(folder, quantization_config=config, dtype=torch.float32)
    assert quantized_names(model) == expected
    given = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=["lm_head"])
    model = AutoModelForVision2Seq.from_pretrained(folder, quantization_config=given, dtype=torch.float32)
    assert "model.multi_modal_projector.linear_1" in quantized_names(model)
    assert given.llm_int8_skip_modules == ["lm_head"]


@torch.no_grad()
@pytest.mark.parametrize(
    ("scheme", "tolerance"), [("nf4", 0.4), ("bnb-int8", 0.1), ("int8", 0.05), ("int8-dynamic", 0.1)]
)
def test_outputs_stay_close(scheme, tolerance, folder):
    expected = load(folder, None)
    expected = expected(**inputs(expected)).logits
    model = load(folder, scheme)
    difference = (model(**inputs(model)).logits - expected).norm() / expected.norm()
    assert 0 < difference < tolerance


@torch.no_grad()
@pytest.mark.parametrize("scheme", ["nf4", "fp4", "bnb-int8", "int8"])
def test_saved_after_a_forward_pass_it_is_the_same(scheme, folder, tmp_path):
    model = load(folder, scheme)
    expected = model(**inputs(model)).logits
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(model(**inputs(model)).logits, expected)
    again = AutoModelForVision2Seq.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert quantized_names(again) == quantized_names(model)
    torch.testing.assert_close(again(**inputs(again)).logits, expected)


@torch.no_grad()
@pytest.mark.parametrize("scheme", ["nf4", "bnb-int8", "int8"])
def test_saved_again_after_loading_it_is_the_same(scheme, folder, tmp_path):
    model = load(folder, scheme)
    expected = model(**inputs(model)).logits
    for name in ("once", "twice"):
        model.save_pretrained(tmp_path / name)
        model = load(tmp_path / name, None)
    assert torch.equal(model(**inputs(model)).logits, expected)


def test_widths_that_no_fast_kernel_takes_work_all_the_same(tmp_path):
    folder = write_tiny_checkpoint(tmp_path, hidden_size=40, intermediate_size=52, num_attention_heads=4)
    model = load(folder, "nf4")
    exact = load(folder, None)
    expected = exact(**inputs(exact)).logits
    assert (model(**inputs(model)).logits - expected).norm() / expected.norm() < 0.4


def test_parts_can_be_quantized_too(folder):
    names = quantized_names(load(folder, "nf4", keep=("encoder",)))
    assert "lm_head" in names
    assert "model.multi_modal_projector.linear_1" in names
    assert not any("vision_tower" in name for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("int3",), "Unknown scheme 'int3'"), (("nf4", torch.float32, ("tower",)), "Unknown parts")],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        quantization_config(*arguments)
