"""Fine-tuning from the shell, whole, on a tiny checkpoint: LoRA, QLoRA, resume after a kill, two processes."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from chat_rows import picture, turns
from helpers_tokenizer import qwen2_tokenizer
from running_scripts import ENVIRONMENT, script_command
from training_runs import FINETUNE, QUICK, finetune, losses, run, run_here, write_checkpoint, write_rows
from transformers_fastvlm import AutoModelForVision2Seq, FastViTHDModel
from transformers_fastvlm.training import RowError

for library in ("accelerate.utils", "datasets", "matplotlib"):
    pytest.importorskip(library, reason=f"the scripts need {library} (the `train` extra)")
peft = pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(checkpoint, data, tmp_path_factory) -> Path:
    """An undisturbed run of 12 steps, saved every 3."""
    output = tmp_path_factory.mktemp("adapter")
    finetune(checkpoint, data, output, "--save_steps", 3, "--save_total_limit", 9, runner=run)
    return output


def test_lora_learns_and_leaves_an_adapter_that_peft_alone_loads(trained, checkpoint):
    course = losses(trained, 12)
    assert len(course) == 12
    assert course[-1] < course[0]
    model = peft.PeftModel.from_pretrained(AutoModelForVision2Seq.from_pretrained(checkpoint), trained)
    saved = load_file(trained / "adapter_model.safetensors")
    assert all("language_model" in name for name in saved)
    assert any(tensor.abs().sum() > 0 for name, tensor in saved.items() if "lora_B" in name)
    processor = AutoProcessor.from_pretrained(trained)
    inputs = processor.apply_chat_template(turns("What is it?")[:1], add_generation_prompt=True, tokenize=False)
    batch = processor(images=[picture()], text=inputs, return_tensors="pt")
    assert model.generate(**batch, max_new_tokens=3).shape[1] > batch["input_ids"].shape[1]


def test_the_run_leaves_a_picture_and_a_card(trained):
    assert (trained / "loss.png").stat().st_size > 5000
    card = (trained / "README.md").read_text()
    assert "| eval_loss |" in card
    assert str(trained.parent) not in card


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.time() + 200
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.time() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("moment", ["between checkpoints", "while one is written"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(moment, trained, checkpoint, data, tmp_path):
    arguments = ["--model", checkpoint, "--dataset", data, "--output_dir", tmp_path, *QUICK]
    arguments += ["--save_steps", 3, "--save_total_limit", 9]
    process = subprocess.Popen(
        script_command(FINETUNE, *arguments),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # The weights come first into a checkpoint, the state last.
    last = "adapter_model.safetensors" if moment == "while one is written" else "trainer_state.json"
    wait_for(tmp_path / "checkpoint-6" / last, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if moment == "while one is written":  # the disk is too fast to be sure of the moment
        (tmp_path / "checkpoint-6" / "trainer_state.json").unlink(missing_ok=True)
        weights = tmp_path / "checkpoint-6" / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        for later in tmp_path.glob("checkpoint-9"):
            (later / "trainer_state.json").unlink(missing_ok=True)
    finetune(checkpoint, data, tmp_path, "--save_steps", 3, "--save_total_limit", 9, "--resume", runner=run)
    assert losses(tmp_path, 12) == pytest.approx(losses(trained, 12), abs=1e-6)
    ours, undisturbed = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path, trained))
    assert all(torch.equal(ours[name], undisturbed[name]) for name in undisturbed)


@pytest.mark.parametrize("processes", [1, 2])
def test_resuming_a_finished_run_trains_no_step_more(processes, trained, checkpoint, data, tmp_path):
    """Killed after its last checkpoint, before it wrote the adapter: that is written, and nothing trained."""
    output = tmp_path / "adapter"
    shutil.copytree(trained, output)
    expected = (output / "adapter_model.safetensors").read_bytes()
    (output / "adapter_model.safetensors").unlink()
    arguments = ["--model", checkpoint, "--dataset", data, "--output_dir", output, *QUICK, "--save_steps", 3]
    arguments += ["--save_total_limit", 9, "--resume", "--per_device_train_batch_size", 2 // processes]
    done = subprocess.run(
        script_command(FINETUNE, *arguments, processes=processes),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("All 12 steps were trained before; there is nothing left to train.") == 1
    assert (output / "adapter_model.safetensors").read_bytes() == expected
    state = json.loads((output / "trainer_state.json").read_text())
    assert state["global_step"] == 12
    assert len(losses(output, 12)) == 12
    assert not (output / "checkpoint-13").exists()


def test_rows_are_named_by_their_line_after_the_split(checkpoint, data, tmp_path):
    lines = data.read_text().splitlines()
    lines[5] = "nonsense"
    faulty = data.with_name("faulty.jsonl")
    faulty.write_text("\n".join(lines))
    with pytest.raises(RowError, match="^Line 6: It is no JSON"):
        finetune(checkpoint, faulty, tmp_path)
    options = ["--faulty_rows", "skip", "--max_steps", 1, "--save_steps", 1]
    told = finetune(checkpoint, faulty, tmp_path, *options)
    assert "1 left out, 1 with no JSON object (lines 6)" in told
    told = finetune(checkpoint, faulty, tmp_path, *options, "--streaming", "--per_device_train_batch_size", 1)
    assert "1 left out, 1 with no JSON object (lines 6)" in told


def test_two_processes_have_the_losses_of_one(trained, checkpoint, data, tmp_path):
    options = ["--per_device_train_batch_size", 1, "--max_steps", 5, "--save_steps", 5, "--dropout", 0]
    finetune(checkpoint, data, tmp_path / "two", *options, runner=run, processes=2)
    options[1] = 2
    finetune(checkpoint, data, tmp_path / "one", *options)
    assert losses(tmp_path / "two", 5) == pytest.approx(losses(tmp_path / "one", 5), abs=1e-4)
    peft.PeftModel.from_pretrained(AutoModelForVision2Seq.from_pretrained(checkpoint), tmp_path / "two")


def test_qlora_with_gradient_checkpointing(checkpoint, data, tmp_path):
    pytest.importorskip("bitsandbytes", reason="4-bit weights need bitsandbytes (the `quantization` extra)")
    options = ["--load_in_4bit", "--gradient_checkpointing", "--max_steps", 6, "--save_steps", 3, "--eval_steps", 2]
    finetune(checkpoint, data, tmp_path, *options)
    course = losses(tmp_path, 6)
    assert course[-1] < course[0]
    model = peft.PeftModel.from_pretrained(AutoModelForVision2Seq.from_pretrained(checkpoint), tmp_path)
    assert any("lora_B" in name for name, _ in model.named_parameters())


def test_accumulated_gradients_are_those_of_the_whole_batch(checkpoint, data, tmp_path):
    options = ["--max_steps", 4, "--save_steps", 4, "--dropout", 0]
    finetune(checkpoint, data, tmp_path / "whole", *options, "--per_device_train_batch_size", 4)
    options += ["--per_device_train_batch_size", 1, "--gradient_accumulation_steps", 4]
    finetune(checkpoint, data, tmp_path / "parts", *options)
    assert losses(tmp_path / "parts", 4) == pytest.approx(losses(tmp_path / "whole", 4), abs=1e-4)


def test_two_processes_stream_what_one_does(checkpoint, data, tmp_path):
    """Rows with and without images, so that a batch is not as many images as rows."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for row in rows[::3]:
        row["images"] = []
        row["messages"][0]["content"] = "What is it?"
    mixed = data.with_name("mixed.jsonl")
    mixed.write_text("\n".join(map(json.dumps, rows)))
    options = ["--streaming", "--max_steps", 5, "--save_steps", 5, "--dropout", 0, "--per_device_train_batch_size"]
    finetune(checkpoint, mixed, tmp_path / "two", *options, 1, runner=run, processes=2)
    finetune(checkpoint, mixed, tmp_path / "one", *options, 2)
    assert losses(tmp_path / "two", 5) == pytest.approx(losses(tmp_path / "one", 5), abs=1e-4)


def test_answers_are_scored_while_it_trains(checkpoint, data, tmp_path):
    options = ["--eval_metric", "anls", "--eval_steps", 2, "--save_steps", 2, "--max_steps", 6, "--eval_samples", 1]
    options += ["--eval_new_tokens", 4, "--load_best_model_at_end", "--learning_rate", 1e-2]
    told = finetune(checkpoint, data, tmp_path, *options)
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    course = [(entry["step"], entry["eval_anls"]) for entry in state["log_history"] if "eval_anls" in entry]
    assert [step for step, _ in course] == [2, 4, 6, 6]
    assert all("eval_loss" in entry for entry in state["log_history"] if "eval_anls" in entry)
    assert state["best_metric"] == max(value for _, value in course[:3])
    assert "| place" in told
    assert "step 2: anls" in told
    before, after = (
        [json.loads(line) for line in (tmp_path / f"answers_{name}.jsonl").read_text().splitlines()]
        for name in ("before", "after")
    )
    assert [row["place"] for row in before] == [row["place"] for row in after]
    assert len(before) == 2  # all evaluation rows
    assert "anls of 2 rows" in told
    card = (tmp_path / "README.md").read_text()
    assert re.search(r"\| eval_anls \| [\d.e-]+ \| [\d.e-]+ \|", card)
    assert "![Loss and metric over the steps](loss.png)" in card


def test_answers_before_are_those_without_the_adapter(checkpoint, data, tmp_path):
    options = ["--eval_metric", "exact_match", "--max_steps", 2, "--learning_rate", 1e-2, "--eval_new_tokens", 4]
    finetune(checkpoint, data, tmp_path / "adapter", *options)
    finetune(checkpoint, data, tmp_path / "full", *options, "--full")
    answers = [(tmp_path / name / "answers_before.jsonl").read_text() for name in ("adapter", "full")]
    assert answers[0] == answers[1]
    weights = load_file(tmp_path / "full" / "model.safetensors")
    original = load_file(checkpoint / "model.safetensors")
    assert weights.keys() == original.keys()
    assert any(not torch.equal(weights[name], original[name]) for name in weights if "vision_tower.stem" in name)
    AutoModelForVision2Seq.from_pretrained(tmp_path / "full")


def preferences(data: Path) -> Path:
    path = data.with_name("preferences.jsonl")
    rows = [
        {"prompt": f"What is {index}?", "chosen": "A cat", "rejected": "No idea at all", "image": f"{index}.png"}
        for index in range(26)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_preferences_are_learnt(checkpoint, data, tmp_path):
    pytest.importorskip("trl", reason="TRL is part of the `train` extra")
    options = ["--method", "dpo", "--max_steps", 8, "--save_steps", 4, "--learning_rate", 5e-3, "--dropout", 0]
    finetune(checkpoint, preferences(data), tmp_path, *options)
    course = losses(tmp_path, 8)
    assert course[0] == pytest.approx(math.log(2), abs=1e-3)  # the adapter has changed nothing yet
    assert course[-1] < course[0]
    card = (tmp_path / "README.md").read_text()
    assert "| method | dpo |" in card
    assert "transformers-fastvlm" in card
    peft.PeftModel.from_pretrained(AutoModelForVision2Seq.from_pretrained(checkpoint), tmp_path)


def test_preferences_with_cached_features_have_the_same_losses(checkpoint, data, tmp_path):
    pytest.importorskip("trl", reason="TRL is part of the `train` extra")
    options = ["--method", "dpo", "--max_steps", 3, "--save_steps", 3, "--learning_rate", 5e-3, "--dropout", 0]
    finetune(checkpoint, preferences(data), tmp_path / "pixels", *options)
    told = finetune(
        checkpoint, preferences(data), tmp_path / "cached", *options, "--cache_features", tmp_path / "features"
    )
    assert "features: 26 images encoded" in told
    assert losses(tmp_path / "cached", 3) == pytest.approx(losses(tmp_path / "pixels", 3), abs=1e-5)


@pytest.fixture
def encoder_calls(monkeypatch) -> list[int]:
    seen = []
    forward = FastViTHDModel.forward

    def counted(self, pixel_values, *args, **kwargs):
        seen.append(len(pixel_values))
        return forward(self, pixel_values, *args, **kwargs)

    monkeypatch.setattr(FastViTHDModel, "forward", counted)
    return seen


def test_cached_features_give_the_same_losses_without_the_encoder(trained, checkpoint, data, tmp_path, encoder_calls):
    options = ["--save_steps", 3, "--save_total_limit", 9, "--num_train_epochs", 2, "--dropout", 0]
    finetune(checkpoint, data, tmp_path / "pixels", *options)
    encoder_calls.clear()
    options += ["--cache_features", tmp_path / "features"]
    told = finetune(checkpoint, data, tmp_path / "cached", *options)
    assert "features: 26 images encoded" in told
    assert sum(encoder_calls) == 26  # none in either epoch
    assert losses(tmp_path / "cached", 24) == pytest.approx(losses(tmp_path / "pixels", 24), abs=1e-5)
    encoder_calls.clear()
    assert "features: 0 images encoded" in finetune(checkpoint, data, tmp_path / "again", *options)
    assert encoder_calls == []


def test_killed_processes_that_learn_preferences_from_cached_features_go_on(checkpoint, data, tmp_path):
    pytest.importorskip("trl", reason="TRL is part of the `train` extra")
    processes, data = 2, preferences(data)
    options = ["--cache_features", tmp_path / "features", "--dropout", 0, "--save_steps", 3, "--save_total_limit", 9]
    options += ["--method", "dpo", "--per_device_train_batch_size", 2 // processes, "--max_steps", 6]
    finetune(checkpoint, data, tmp_path / "whole", *options, runner=run, processes=processes)
    arguments = ["--model", checkpoint, "--dataset", data, "--output_dir", tmp_path / "cut", *QUICK, *options]
    process = subprocess.Popen(
        script_command(FINETUNE, *arguments, processes=processes),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(tmp_path / "cut" / "checkpoint-3" / "trainer_state.json", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finetune(checkpoint, data, tmp_path / "cut", *options, "--resume", runner=run, processes=processes)
    assert losses(tmp_path / "cut", 6) == pytest.approx(losses(tmp_path / "whole", 6), abs=1e-5)


def test_other_rows_are_mixed_in(checkpoint, data, tmp_path):
    other = data.with_name("other.jsonl")
    other.write_text(
        "\n".join(json.dumps({"question": "Old?", "answer": "Yes", "image": f"{i}.png"}) for i in range(4))
    )
    told = finetune(
        checkpoint, data, tmp_path, "--replay", other, "--replay_share", 0.2, "--max_steps", 1, "--save_steps", 1
    )
    assert "replay: questions and answers in `question`, `answer`, images in `image`" in told
    assert "replay: 6 of 4 rows, 20% of all that are trained on" in told


def test_packing_has_the_losses_of_padding(checkpoint, data, tmp_path):
    options = ["--max_steps", 3, "--save_steps", 3, "--dropout", 0]
    finetune(checkpoint, data, tmp_path / "padded", *options)
    finetune(checkpoint, data, tmp_path / "packed", *options, "--packing")
    assert losses(tmp_path / "packed", 3) == pytest.approx(losses(tmp_path / "padded", 3), abs=1e-5)


def test_bfloat16_on_a_cpu(checkpoint, data, tmp_path):
    finetune(checkpoint, data, tmp_path, "--bf16", "--max_steps", 6, "--save_steps", 6, "--learning_rate", 5e-3)
    course = losses(tmp_path, 6)
    assert course[-1] < course[0]


def test_a_recipe_and_the_command_line(checkpoint, data, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {checkpoint}\ndataset: {data}\nrank: 4\nmax_steps: 9\nsave_steps: 1\n")
    run_here(FINETUNE, "--recipe", recipe, "--output_dir", tmp_path / "out", "--max_steps", 1, *QUICK)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 4
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["global_step"] == 1


def test_what_is_left_loads_by_the_auto_classes_and_a_pipeline(trained, checkpoint):
    model = AutoModelForImageTextToText.from_pretrained(trained, dtype=torch.float32)
    with_peft = peft.PeftModel.from_pretrained(
        AutoModelForVision2Seq.from_pretrained(checkpoint, dtype=torch.float32), trained
    )
    processor = AutoProcessor.from_pretrained(trained)
    prompt = processor.apply_chat_template(turns("What is it?")[:1], add_generation_prompt=True, tokenize=False)
    batch = processor(images=[picture()], text=prompt, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, with_peft(**batch).logits)
    ask = pipeline("image-text-to-text", model=str(trained))
    content = [{"type": "image", "image": picture()}, {"type": "text", "text": "What is it?"}]
    answer = ask(text=[{"role": "user", "content": content}], max_new_tokens=4, return_full_text=False)
    tokens = with_peft.generate(**batch, max_new_tokens=4, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert answer[0]["generated_text"] == processor.decode(tokens, skip_special_tokens=True)


MISTAKES = {
    "method": (["--method", "x"], "Unknown --method 'x'"),
    "metric": (["--eval_metric", "x"], "Unknown --eval_metric 'x'; known are exact_match"),
    "full and 4 bit": (["--full", "--load_in_4bit"], "--full trains all weights"),
    "cached and trained": (["--cache_features", "f", "--adapt_encoder"], "for an encoder that stays as it is"),
    "packed preferences": (["--packing", "--method", "dpo"], "--packing is for --method sft"),
    "share": (["--replay_share", "1"], "--replay_share is a share between 0 and 1"),
    "metric of a stream": (["--eval_metric", "anls", "--streaming", "--max_steps", 1], "name --eval_dataset"),
    "cache of a stream": (["--cache_features", "f", "--streaming", "--max_steps", 1], "rows that are not streamed"),
    "preferences of a stream": (["--method", "dpo", "--streaming", "--max_steps", 1], "rows that are not streamed"),
    "no preferences": (["--method", "dpo"], "there is no preference to learn"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_before_a_step(name, checkpoint, data, tmp_path):
    arguments, message = MISTAKES[name]
    if "dpo" in arguments:
        pytest.importorskip("trl", reason="TRL is part of the `train` extra")
    with pytest.raises(ValueError, match=message):
        finetune(checkpoint, data, tmp_path, *arguments)


ANSWER = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText
import transformers_fastvlm
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype=torch.float32)
model = PeftModel.from_pretrained(model, sys.argv[2]).eval()
inputs = torch.load(sys.argv[3])
with torch.no_grad():
    logits = model(**inputs).logits
tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
torch.save({"logits": logits, "tokens": tokens}, sys.argv[4])
"""


def test_an_adapter_of_an_original_checkpoint_fits_its_own_format(original_folder, data, tmp_path):
    """Trained by the script, then loaded by PEFT alone, each time in a process of its own."""
    original, own, adapter = tmp_path / "original", tmp_path / "own", tmp_path / "adapter"
    original.mkdir()
    qwen2_tokenizer(151643, padding_side="right").save_pretrained(original)
    for name in ("config.json", "model.safetensors"):
        (original / name).symlink_to(original_folder / name)
    options = ["--max_steps", 2, "--save_steps", 2, "--resolution", 128, "--adapt_projector", "--adapt_encoder"]
    finetune(original, data, adapter, *options, "--learning_rate", 1e-2)
    AutoModelForVision2Seq.from_pretrained(original, dtype=torch.float32).save_pretrained(own)
    processor = AutoProcessor.from_pretrained(adapter)
    prompt = processor.apply_chat_template(turns("What is it?")[:1], add_generation_prompt=True, tokenize=False)
    inputs = processor(images=[picture()], text=prompt, return_tensors="pt")
    torch.save(dict(inputs), tmp_path / "inputs.pt")
    answers = {}
    for folder in (original, own):
        arguments = [folder, adapter, tmp_path / "inputs.pt", tmp_path / "answer.pt"]
        subprocess.run([sys.executable, "-c", ANSWER, *map(str, arguments)], env=ENVIRONMENT, check=True, timeout=300)
        answers[folder] = torch.load(tmp_path / "answer.pt")
    assert torch.equal(answers[own]["tokens"], answers[original]["tokens"])
    torch.testing.assert_close(answers[own]["logits"], answers[original]["logits"])
    with torch.no_grad():
        unadapted = AutoModelForVision2Seq.from_pretrained(own, dtype=torch.float32)(**inputs).logits
    assert (unadapted - answers[own]["logits"]).abs().max() > 1e-2
