"""The scripts users copy, run whole on a tiny checkpoint: LoRA, QLoRA, resume after a kill, stages, two processes."""

import contextlib
import importlib.util
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlamaConfig, LlamaForCausalLM

from chat_rows import picture, turns
from helpers_tokenizer import qwen2_tokenizer
from running_scripts import ENVIRONMENT, run_script, script_command
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm import AutoModelForVision2Seq, FastVLMForConditionalGeneration
from transformers_fastvlm.training import RowError

for library in ("accelerate.utils", "datasets", "matplotlib"):
    pytest.importorskip(library, reason=f"the scripts need {library} (the `train` extra)")
peft = pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
QUICK = ["--per_device_train_batch_size", "2", "--logging_steps", "1", "--disable_tqdm", "true", "--eval_steps", "100"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    text = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), **text)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for index in range(26):
        picture(60 + index, 70).save(folder / f"{index}.png")
        messages = [
            {"role": "user", "content": f"<image>\nWhat is {index}?"},
            {"role": "assistant", "content": "A cat" + " and a cat" * (index % 3)},
        ]
        rows.append(json.dumps({"messages": messages, "images": [f"{index}.png"]}))
    (folder / "train.jsonl").write_text("\n".join(rows))
    return folder / "train.jsonl"


def run(script: str, *arguments: object, processes: int = 1) -> str:
    return run_script(EXAMPLES / script, *arguments, processes=processes)


def run_here(script: str, *arguments: object) -> str:
    """As `run`, in this process, whose imports are done."""
    spec = importlib.util.spec_from_file_location(script.removesuffix(".py"), EXAMPLES / script)
    module = importlib.util.module_from_spec(spec)
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.setitem(sys.modules, spec.name, module)  # where argument parsers look up annotations
        patch.setattr(sys, "argv", list(map(str, [EXAMPLES / script, *arguments])))
        spec.loader.exec_module(module)
        module.main()
    return output.getvalue()


def finetune(checkpoint, data, output, *arguments, runner=run_here, **kwargs) -> str:
    arguments = ("--model", checkpoint, "--dataset", data, "--output_dir", output, *QUICK, *arguments)
    return runner("finetune_lora.py", *arguments, **kwargs)


def losses(output: Path, step: int) -> list[float]:
    history = json.loads((output / f"checkpoint-{step}" / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


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
        script_command(EXAMPLES / "finetune_lora.py", *arguments),
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
        script_command(EXAMPLES / "finetune_lora.py", *arguments, processes=processes),
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


def test_stages_build_a_model_from_two_parts_and_train_what_they_say(checkpoint, data, tmp_path):
    decoder = tmp_path / "decoder"
    tokenizer = qwen2_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    end = tokenizer.eos_token_id
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=end, **sizes)).save_pretrained(decoder)
    tokenizer.save_pretrained(decoder)
    common = ["--dataset", data, "--resolution", 128, "--batch_size", 4, "--max_steps", 3, *QUICK[:-2]]
    parts = ["--encoder", checkpoint, "--decoder", decoder]
    run_here("train_stages.py", "--stage", "1", *parts, "--output_dir", tmp_path / "one", *common)
    weights = load_file(tmp_path / "one" / "model.safetensors")
    for folder, prefix in ((checkpoint, "model.vision_tower."), (decoder, "model.layers.")):
        for name, tensor in load_file(folder / "model.safetensors").items():
            if name.startswith(prefix):
                own = name.replace("model.layers", "model.language_model.layers")
                assert torch.equal(weights[own], tensor), own
    output = run_here(
        "train_stages.py", "--stage", "2", "--model", tmp_path / "one", "--output_dir", tmp_path / "two", *common
    )
    assert "stage 2 trains encoder, projector, decoder" in output
    later = load_file(tmp_path / "two" / "model.safetensors")
    for part in ("vision_tower.stem", "multi_modal_projector", "language_model.layers"):
        assert any(not torch.equal(later[name], weights[name]) for name in weights if part in name)
    model = FastVLMForConditionalGeneration.from_pretrained(tmp_path / "two")
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|im_end|>"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--stage", "4"], "Unknown --stage '4'"), (["--stage", "1"], "Give either --model, or both --encoder and")],
)
def test_stages_say_what_is_wrong(arguments, message, data, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_here("train_stages.py", *arguments, "--dataset", data, "--output_dir", tmp_path)


def test_trl(checkpoint, data, tmp_path):
    pytest.importorskip("trl", reason="TRL is part of the `train` extra")
    folder = tmp_path / "folder"
    folder.mkdir()
    for index in range(4):
        picture(60 + index, 70).save(folder / f"{index}.png")
    row = {
        "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A cat"}],
    }
    lines = [json.dumps({"images_file_names": [f"{index}.png"], **row}) for index in range(4)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    arguments = ["--model_name_or_path", checkpoint, "--dataset_name", folder, "--output_dir", tmp_path / "adapter"]
    arguments += ["--use_peft", "--lora_target_modules", "q_proj", "v_proj", "--max_steps", 2, "--report_to", "none"]
    arguments += ["--bf16", "false"]  # TRL takes a GPU for granted
    run_here("finetune_trl.py", *arguments, *QUICK[:4])
    peft.PeftModel.from_pretrained(AutoModelForVision2Seq.from_pretrained(checkpoint), tmp_path / "adapter")
