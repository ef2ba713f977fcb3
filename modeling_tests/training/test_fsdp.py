"""Two processes that share a model's weights (FSDP2) train like one that has them all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transformers_fastvlm import FastVLMForConditionalGeneration

WORKER = Path(__file__).with_name("fsdp_worker.py")


def train(folder: Path, processes: int) -> list[float]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, str(WORKER), str(folder)], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "losses.json").read_text())


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch is built without distributed training")
def test_two_processes_have_the_losses_of_one_and_save_a_whole_checkpoint(tmp_path):
    losses = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        losses[processes] = train(folder, processes)
    assert len(losses[1]) == 5
    assert losses[1][-1] < losses[1][0]
    assert losses[2] == pytest.approx(losses[1], abs=1e-4)
    FastVLMForConditionalGeneration.from_pretrained(tmp_path / "2")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("1", "2"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=1e-3)
