"""The device that `modeling_tests/devices` runs on: `FASTVLM_TEST_DEVICE`, by default a GPU where there is one."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

DEVICE = torch.device(os.environ.get("FASTVLM_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))
needs_accelerator = pytest.mark.skipif(DEVICE.type == "cpu", reason="the device under test is the CPU")
needs_cuda = pytest.mark.skipif(DEVICE.type != "cuda", reason="the device under test is no CUDA GPU")

BUNDLED = Path(__file__).parent.parent / "checkpoints" / "tiny-reader"
TASKS = json.loads((BUNDLED / "images" / "truth.json").read_text())
GREEDY = {"max_new_tokens": 12, "do_sample": False}

# Largest differences from float32 on the CPU, relative to the largest value.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 2e-2}


def moved(inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs on the device under test."""
    return {name: value.to(DEVICE) if torch.is_tensor(value) else value for name, value in inputs.items()}


def random_pixels(images: int, height: int = 128, width: int = 128) -> torch.Tensor:
    return torch.rand(images, 3, height, width, generator=torch.Generator().manual_seed(images))


def bundled_inputs(processor: Any, tasks: list[dict[str, str]]) -> dict[str, torch.Tensor]:
    """The prompts of some of the bundled checkpoint's pictures, on the CPU; several are padded on the left."""
    chats = []
    for task in tasks:
        content = [{"type": "image", "image": Image.open(BUNDLED / "images" / task["image"])}]
        chats.append([{"role": "user", "content": [*content, {"type": "text", "text": task["question"]}]}])
    return dict(
        processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
    )


def new_tokens(model: Any, inputs: dict[str, Any], **options: Any) -> list[list[int]]:
    """What the model answers greedily, without the padding after it."""
    output = model.generate(**inputs, **{**GREEDY, **options})[:, inputs["input_ids"].shape[1] :]
    padding = model.generation_config.pad_token_id
    return [[token for token in row if token != padding] for row in output.tolist()]


@contextmanager
def counted_waits() -> Iterator[list[str]]:
    """Collects `file:line` for each time that the host waits for the GPU."""
    waits: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchronizing CUDA operation" in str(warning.message):
            waits.append(f"{Path(warning.filename).name}:{warning.lineno}")
