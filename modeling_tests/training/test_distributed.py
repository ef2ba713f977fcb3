"""Two processes that share a model's weights (FSDP2), or only gradients (DDP), train like one alone."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transformers_fastvlm import FastVLMForConditionalGeneration

if not torch.distributed.is_available():
    pytest.skip("this PyTorch is built without distributed training", allow_module_level=True)

from running_scripts import run_script
from training.distributed_worker import KINDS, share, train, trainable_model

WORKER = Path(__file__).with_name("distributed_worker.py")


def run_two_processes(folder: Path, *kinds: str) -> Path:
    run_script(WORKER, folder, *kinds, processes=2)
    return folder


def check(folder: Path, kind: str) -> None:
    alone = trainable_model()
    expected = train(alone, share(0, 1, text_alone=kind.endswith("text")))
    assert len(expected) == 5
    assert expected[-1] < expected[0]
    assert json.loads((folder / kind / "losses.json").read_text()) == pytest.approx(expected, abs=1e-4)
    FastVLMForConditionalGeneration.from_pretrained(folder / kind)
    saved = load_file(folder / kind / "model.safetensors")
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(saved[name], tensor, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return run_two_processes(tmp_path_factory.mktemp("two"), *KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_losses_of_one_and_save_a_whole_checkpoint(kind, folder):
    check(folder, kind)


@pytest.mark.parametrize("kind", ["zero3", "zero3-text"])
def test_so_do_two_under_deepspeed(kind, tmp_path):
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is in no extra, since it builds kernels with a C++ compiler: pip install deepspeed")
    check(run_two_processes(tmp_path, kind), kind)
