"""Trainings of a tiny checkpoint on pictures, in this process or in processes of their own."""

import contextlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chat_rows import picture
from running_scripts import run_script
from tiny_models import write_tiny_checkpoint

EXAMPLES = Path(__file__).parent.parent / "examples"
FINETUNE = "transformers_fastvlm.scripts.finetune_lora"
QUICK = ["--per_device_train_batch_size", "2", "--logging_steps", "1", "--disable_tqdm", "true", "--eval_steps", "100"]


def write_checkpoint(folder: Path) -> Path:
    text = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    return write_tiny_checkpoint(folder, **text)


def write_rows(folder: Path) -> Path:
    """26 rows with a picture each."""
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


def run(program: str, *arguments: object, processes: int = 1) -> str:
    """An example by its file's name, or a module of the package."""
    return run_script(EXAMPLES / program if program.endswith(".py") else program, *arguments, processes=processes)


def run_here(program: str, *arguments: object) -> str:
    """As `run`, in this process, whose imports are done."""
    if program.endswith(".py"):
        spec = importlib.util.spec_from_file_location(program.removesuffix(".py"), EXAMPLES / program)
        module = importlib.util.module_from_spec(spec)
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.setattr(sys, "argv", list(map(str, [program, *arguments])))
        if program.endswith(".py"):
            patch.setitem(sys.modules, spec.name, module)  # where argument parsers look up annotations
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(program)
        module.main()
    return output.getvalue()


def finetune(checkpoint: Path, data: Path, output: Path, *arguments: object, runner: Callable = run_here, **kwargs):
    arguments = ("--model", checkpoint, "--dataset", data, "--output_dir", output, *QUICK, *arguments)
    return runner(FINETUNE, *arguments, **kwargs)


def losses(output: Path, step: int) -> list[float]:
    history = json.loads((output / f"checkpoint-{step}" / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]
