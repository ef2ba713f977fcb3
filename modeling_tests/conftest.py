"""Fixtures that several test files share. No test reaches a network."""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import pytest
import torch
from PIL import ImageFile
from safetensors.torch import save_file
from torch.utils import deterministic

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "benchmarks"))

GOLDEN = HERE / "golden"
ORIGIN_OF_GOLDEN = HERE.parent.parent / "shared" / "golden"
sys.path.insert(0, str(GOLDEN))

from seeded_weights import seeded_tensor

import prepared_processes

prepared_processes.install()


def seeded_tensors(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.asarray(seeded_tensor(name, tuple(shape)))) for name, shape in shapes.items()}


def seeded_image(resolution: int, seed: int) -> torch.Tensor:
    image = np.random.RandomState(seed).uniform(0, 1, (1, 3, resolution, resolution)).astype(np.float32)
    return torch.from_numpy(image)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder with the reference outputs of the original code."""
    return GOLDEN


@pytest.fixture(scope="session")
def golden_outputs(golden) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "original" / "outputs.npz"))


@pytest.fixture(scope="session")
def original_folder(golden, tmp_path_factory) -> Path:
    """A full-size-encoder original checkpoint with seeded weights: `config.json` and weights, no more."""
    folder = tmp_path_factory.mktemp("original")
    shutil.copyfile(golden / "original" / "config.json", folder / "config.json")
    shapes = json.loads((golden / "original" / "tensor_shapes.json").read_text())
    save_file(seeded_tensors(shapes), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def original_training_form_folder(golden, original_folder, tmp_path_factory) -> Path:
    """The same, with the encoder in its multi-branch training form."""
    folder = tmp_path_factory.mktemp("original_training_form")
    shutil.copyfile(original_folder / "config.json", folder / "config.json")
    shapes = json.loads((golden / "original" / "tensor_shapes.json").read_text())
    shapes = {name: shape for name, shape in shapes.items() if "vision_tower" not in name}
    shapes |= json.loads((golden / "original" / "tensor_shapes_training_form.json").read_text())
    save_file(seeded_tensors(shapes), folder / "model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def pil_refuses_images_cut_short(monkeypatch):
    """As by default: lmms-eval, which some tests import, has PIL read them from then on, in the whole process."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


@pytest.fixture
def nan_in_uninitialized_memory():
    """`torch.empty` and the like hand out NaN, or the largest integer: what is read before it is written shows."""
    assert deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def exact_float32(monkeypatch):
    """float32 with all its digits on GPUs, where convolutions round to TF32 by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine that this process's clients talk to, as Alice, who may also write to `acme`."""
    from publishing.loopback_hub import LoopbackHub, User, patched_client

    users = {
        "hf_alice": User("alice", orgs={"acme": "write", "readers": "read"}),
        "hf_reader": User("alice", role="read"),
        "hf_bob": User("bob"),
    }
    with LoopbackHub(tmp_path / "hub", users) as hub:
        patched_client(monkeypatch, hub, token="hf_alice", cache_dir=tmp_path / "cache")
        yield hub


def assert_close_to_largest(actual, expected, tolerance: float = 1e-4) -> None:
    """Largest difference below `tolerance` of the largest expected value."""
    actual, expected = torch.as_tensor(actual), torch.as_tensor(expected)
    assert actual.shape == expected.shape
    difference = (actual - expected).abs().max() / expected.abs().max()
    assert difference < tolerance, f"differs by {difference:.2e} of the largest value"
