"""Models loaded in a dtype, quantized, with an adapter, and their processor, on a tiny random checkpoint."""

import pytest
import torch

from chat_rows import picture
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm import extras
from transformers_fastvlm.inference import (
    ModelOptions,
    generate_answers,
    image_embeddings,
    load,
    load_model,
    to_messages,
)

GREEDY = {"max_new_tokens": 8, "do_sample": False}
CONVERSATIONS = [to_messages("What is it?", [picture()]), to_messages("Hello", [])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_options_reach_the_model(folder):
    model, processor = load(
        ModelOptions(str(folder), dtype="bfloat16", resolution=192, static_cache=True, compiled=True)
    )
    assert model.dtype == torch.bfloat16
    assert processor.image_processor.get_resolution() == 192
    assert model.generation_config.cache_implementation == "static"
    assert model.model.vision_tower._compiled_call_impl is not None


@pytest.mark.parametrize("scheme", ["nf4", "bnb-int8", "int8"])
def test_quantized_weights(folder, scheme):
    for library in ("bitsandbytes", "torchao", "accelerate"):
        pytest.importorskip(library, reason=f"quantization needs {library} (the `quantization` extra)")
    model, processor = load(ModelOptions(str(folder), quantization=scheme))
    kinds = {type(module.weight).__name__ for module in model.modules() if hasattr(module, "weight")}
    assert any("Params4bit" in kind or "Int8" in kind for kind in kinds), kinds
    assert len(generate_answers(model, processor, CONVERSATIONS[:1], **GREEDY)) == 1


def test_an_adapter(folder, tmp_path):
    peft = pytest.importorskip("peft", reason="adapters need PEFT (the `train` extra)")
    model, processor = load(ModelOptions(str(folder), dtype="float32"))
    plain = generate_answers(model, processor, CONVERSATIONS, **GREEDY)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    model, processor = load(ModelOptions(str(folder), adapter=str(tmp_path), dtype="float32"))
    assert generate_answers(model, processor, CONVERSATIONS, **GREEDY) != plain
    assert image_embeddings(model, processor, [picture()]).shape[0] == 1


def test_an_unknown_dtype_is_named():
    with pytest.raises(ValueError, match="Unknown dtype 'int4'"):
        ModelOptions("x", dtype="int4")


def test_an_adapter_without_peft_names_the_extra(folder, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(ImportError, match=r"An adapter needs peft, .*transformers-fastvlm\[train\]"):
        load_model(folder, adapter="nowhere")


def test_the_device_is_the_one_asked_for(folder):
    assert load_model(folder).device.type == "cpu"
    assert load_model(folder, device="meta").device.type == "meta"
    assert not load_model(folder, dtype=torch.bfloat16).training
