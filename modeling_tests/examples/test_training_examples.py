"""The training scripts that users copy, run whole on a tiny checkpoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from helpers_tokenizer import qwen2_tokenizer
from training_runs import EXAMPLES, QUICK, run_here, write_checkpoint, write_rows
from transformers_fastvlm import AutoModelForVision2Seq, FastVLMForConditionalGeneration
from transformers_fastvlm.training.recipes import read_recipe

for library in ("accelerate.utils", "datasets", "matplotlib"):
    pytest.importorskip(library, reason=f"the scripts need {library} (the `train` extra)")
peft = pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")

ON_A_CPU = ["--bf16", "false", "--gradient_checkpointing", "false"]


def recipe(stage: str) -> list:
    return ["--recipe", EXAMPLES / "recipes" / f"stage_{stage}.yaml"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data"))


def test_stages_build_a_model_from_two_parts_and_train_what_they_say(checkpoint, data, tmp_path):
    decoder = tmp_path / "decoder"
    tokenizer = qwen2_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    end = tokenizer.eos_token_id
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=end, **sizes)).save_pretrained(decoder)
    tokenizer.save_pretrained(decoder)
    common = ["--dataset", data, "--resolution", 128, "--batch_size", 4, "--max_steps", 3, *QUICK[:-2], *ON_A_CPU]
    parts = ["--encoder", checkpoint, "--decoder", decoder]
    run_here("train_stages.py", *recipe("1"), *parts, "--output_dir", tmp_path / "one", *common)
    weights = load_file(tmp_path / "one" / "model.safetensors")
    for folder, prefix in ((checkpoint, "model.vision_tower."), (decoder, "model.layers.")):
        for name, tensor in load_file(folder / "model.safetensors").items():
            if name.startswith(prefix):
                own = name.replace("model.layers", "model.language_model.layers")
                assert torch.equal(weights[own], tensor), own
    output = run_here(
        "train_stages.py", *recipe("2"), "--model", tmp_path / "one", "--output_dir", tmp_path / "two", *common
    )
    assert "trains encoder, projector, decoder at 128x128" in output
    later = load_file(tmp_path / "two" / "model.safetensors")
    for part in ("vision_tower.stem", "multi_modal_projector", "language_model.layers"):
        assert any(not torch.equal(later[name], weights[name]) for name in weights if part in name)
    model = FastVLMForConditionalGeneration.from_pretrained(tmp_path / "two")
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|im_end|>"])


def test_every_recipe_is_what_the_paper_says():
    """FastVLM, arXiv 2412.13303, section 4: rates, batch sizes, resolution; one epoch, cosine, warm-up of 3 %."""
    for stage in ("1", "1.5", "2", "3"):
        values = read_recipe(EXAMPLES / "recipes" / f"stage_{stage}.yaml")
        first = stage == "1"
        assert values["trains"] == (["projector"] if first else ["encoder", "projector", "decoder"])
        assert (values["learning_rate"], values["batch_size"]) == ((1e-3, 256) if first else (2e-5, 128))
        assert (values["resolution"], values["num_train_epochs"], values["lr_scheduler_type"]) == (1024, 1, "cosine")
        assert (values["warmup_steps"], values["weight_decay"]) == (0.03, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trains", "head", "--batch_size", 4, "--model", "m"], "Unknown --trains head"),
        (recipe("1"), "Give either --model, or both --encoder and"),
    ],
)
def test_stages_say_what_is_wrong(arguments, message, data, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_here("train_stages.py", *arguments, "--dataset", data, "--output_dir", tmp_path)


def test_trl(checkpoint, data, tmp_path):
    pytest.importorskip("trl", reason="TRL is part of the `train` extra")
    arguments = ["--model_name_or_path", checkpoint, "--dataset", data, "--output_dir", tmp_path / "adapter"]
    arguments += ["--use_peft", "--lora_target_modules", "q_proj", "v_proj", "--max_steps", 2, "--report_to", "none"]
    arguments += ["--bf16", "false"]  # TRL takes a GPU for granted
    assert "26 rows, 0 left out" in run_here("finetune_trl.py", *arguments, *QUICK[:4])
    peft.PeftModel.from_pretrained(AutoModelForVision2Seq.from_pretrained(checkpoint), tmp_path / "adapter")
    assert "| train_loss |" in (tmp_path / "adapter" / "README.md").read_text()


def test_lora_in_plain_sight(checkpoint, data, tmp_path):
    arguments = ["--model", checkpoint, "--dataset", data, "--output_dir", tmp_path / "adapter", "--max_steps", 2]
    told = run_here("finetune_lora.py", *arguments, *QUICK[:4])
    assert "messages in `messages`, images in `images`" in told
    peft.PeftModel.from_pretrained(AutoModelForVision2Seq.from_pretrained(checkpoint), tmp_path / "adapter")
    text = (EXAMPLES / "finetune_lora.py").read_text()
    assert len(text.splitlines()) <= 60
