import logging
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
import transformers
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
)
from transformers.utils import is_torchvision_available

import transformers_fastvlm
from prepared_processes import UNPREPARED
from tiny_models import tiny_model, tiny_vision_config, write_tiny_checkpoint
from transformers_fastvlm import (
    AutoModelForVision2Seq,
    FastViTHDBackbone,
    FastViTHDConfig,
    FastViTHDModel,
    FastVLMConfig,
    FastVLMForConditionalGeneration,
    FastVLMModel,
)


@pytest.mark.parametrize(
    ("auto_class", "expected"),
    [
        (AutoModel, FastVLMModel),
        (AutoModelForCausalLM, FastVLMForConditionalGeneration),
        (AutoModelForImageTextToText, FastVLMForConditionalGeneration),
        (AutoModelForVision2Seq, FastVLMForConditionalGeneration),
        (AutoModelForMultimodalLM, FastVLMForConditionalGeneration),
        (AutoConfig, FastVLMConfig),
    ],
)
def test_auto_classes_load_an_own_checkpoint(auto_class, expected, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert type(auto_class.from_pretrained(tmp_path)) is expected


def test_auto_classes_load_the_encoder(tmp_path):
    FastViTHDModel(tiny_vision_config()).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is FastViTHDConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is FastViTHDModel
    assert type(AutoBackbone.from_config(tiny_vision_config())) is FastViTHDBackbone


@pytest.mark.parametrize(
    "imports",
    [
        "import transformers as t; import transformers_fastvlm",
        "import transformers as t; from transformers import ProcessorMixin; import transformers_fastvlm",
        "import transformers_fastvlm; import transformers as t; import transformers.processing_utils",
        "import transformers_fastvlm, sys; t = sys.modules['transformers']",
    ],
)
def test_vision2seq_can_be_imported_from_transformers_in_any_order(imports):
    script = "from transformers import AutoModelForVision2Seq as A; print(A.__module__, t.AutoModelForVision2Seq is A)"
    process = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{script}"], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "transformers_fastvlm.auto True"


def test_vision2seq_is_an_attribute_of_transformers_alone():
    assert transformers.AutoModelForVision2Seq is AutoModelForVision2Seq
    with pytest.raises(AttributeError):
        transformers.models.qwen2.AutoModelForVision2Seq  # noqa: B018


def test_pipelines_know_the_model(tmp_path, caplog):
    folder = write_tiny_checkpoint(tmp_path)
    logging.getLogger("transformers").propagate = True
    tasks = ["image-text-to-text"] + ["any-to-any"] * is_torchvision_available()  # which that pipeline needs
    for task in tasks:
        pipe = transformers.pipeline(task, model=str(folder))
        assert type(pipe.model) is FastVLMForConditionalGeneration
    assert "not supported" not in caplog.text


def test_public_names():
    assert transformers_fastvlm.__version__ == version("transformers-fastvlm")
    assert set(transformers_fastvlm.FASTVITHD_FAMILY) == {"mci0", "mci1", "mci2", "mci3", "mci4"}
    assert all(hasattr(transformers_fastvlm, name) for name in transformers_fastvlm.__all__)


def test_importing_the_package_imports_nothing_that_transformers_own_models_do_not():
    script = "import sys; before = set(sys.modules); {}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    ours, theirs = (
        set(subprocess.run([sys.executable, "-c", script.format(imports)], capture_output=True, text=True, check=True,
                           **UNPREPARED).stdout.splitlines()[-1].split())
        for imports in (
            "import transformers_fastvlm",
            "from transformers import Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor, Qwen2VLProcessor",
        )
    )  # fmt: skip
    assert ours - theirs <= {"transformers_fastvlm", "concurrent"}
    assert "bitsandbytes" not in ours


def test_vision2seq_loads_other_models_of_transformers_too(tmp_path):
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16}
        | {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        text_config={"model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 16}
        | {"num_hidden_layers": 1, "num_attention_heads": 2},
        image_token_index=7,
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    loaded = AutoModelForVision2Seq.from_pretrained(tmp_path)
    assert isinstance(loaded, transformers.LlavaForConditionalGeneration)


def test_transformers_keeps_its_own_fast_vlm_until_asked():
    script = """
import transformers, transformers_fastvlm
config = transformers.FastVlmConfig()
print(type(transformers.AutoConfig.for_model("fast_vlm")).__module__)
transformers_fastvlm.register_upstream()
print(transformers.CONFIG_MAPPING["fast_vlm"].__module__)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after = process.stdout.split()
    assert before.startswith("transformers.models.fast_vlm")
    assert after.startswith("transformers_fastvlm.")


def test_registering_twice_is_harmless():
    transformers_fastvlm.auto.register()
    assert type(AutoConfig.for_model("fastvlm")) is FastVLMConfig


def test_model_and_configuration_from_config():
    config = tiny_model().config
    for auto_class in (AutoModelForVision2Seq, AutoModelForImageTextToText, AutoModelForCausalLM):
        model = auto_class.from_config(config, dtype=torch.bfloat16)
        assert isinstance(model, FastVLMForConditionalGeneration)
        assert model.lm_head.weight.dtype == torch.bfloat16
