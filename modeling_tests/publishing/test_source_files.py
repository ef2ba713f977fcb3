# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A repository on the Hub is looked at once: small files first, weights when they are asked for, all of one commit."""

import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file

from publishing.loopback_hub import Fault
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.publishing import PublishError, PublishSettings
from transformers_fastvlm.publishing.checkpoint_source import resolve_source
from transformers_fastvlm.publishing.source_files import find_files
from transformers_fastvlm.publishing.source_loading import load_model

REPO = "acme/base"
DOWNLOAD = f"/{REPO}/resolve/"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def repository(hub, tiny):
    HfApi().create_repo(REPO)
    HfApi().upload_folder(repo_id=REPO, folder_path=tiny)
    return hub


def source():
    return resolve_source(PublishSettings(REPO, "acme/reader"))


def test_weights_wait(repository, tiny):
    found = source()
    assert found.model.is_on_hub and found.model.revision == repository.head(REPO)
    assert not repository.requests_to("GET", f"{DOWNLOAD}.*safetensors")
    assert [path.name for path in found.model.weights] == ["model.safetensors"]
    assert found.model.weights[0].parent == found.model.folder
    assert {name: tensor.dtype for name, tensor in load_model(found, None).state_dict().items()} == {
        name: tensor.dtype for name, tensor in load_file(tiny / "model.safetensors").items()
    }


def test_what_is_committed_meanwhile_is_not_mixed_in(repository, tiny, tmp_path):
    found = source()
    changed = {name: torch.zeros_like(tensor) for name, tensor in load_file(tiny / "model.safetensors").items()}
    save_file(changed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    HfApi().upload_file(repo_id=REPO, path_or_fileobj=tmp_path / "model.safetensors", path_in_repo="model.safetensors")
    assert found.model.weights[0].read_bytes() == (tiny / "model.safetensors").read_bytes()


def test_a_file_is_fetched_once(repository):
    assert load_model(source(), None)
    fetched = [request.path for request in repository.requests_to("GET", DOWNLOAD)]
    assert "model.safetensors" in {path.rpartition("/")[2] for path in fetched}
    assert len(fetched) == len(set(fetched))


def test_what_is_in_folders_is_left_there(repository):
    HfApi().upload_file(repo_id=REPO, path_or_fileobj=b"{}", path_in_repo="runs/config.json")
    found = find_files(REPO)
    assert not any("/" in name for name in found.names)
    assert not repository.requests_to("GET", f"{DOWNLOAD}.*runs")


def test_pickled_weights_are_seen_and_not_fetched(repository):
    HfApi().upload_file(repo_id=REPO, path_or_fileobj=b"pickle", path_in_repo="pytorch_model.bin")
    HfApi().delete_file("model.safetensors", REPO)
    with pytest.raises(PublishError, match=r"acme/base has pickled weights \(pytorch_model\.bin\)"):
        source()
    assert not repository.requests_to("GET", f"{DOWNLOAD}.*bin")


@pytest.mark.parametrize("absent", ["offline", "out of order"])
def test_without_the_hub_the_cache_is_read(absent, repository, monkeypatch):
    before = load_model(source(), None).state_dict()
    if absent == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        repository.faults.append(Fault("GET", "/api/models/", times=100, status=503))
    again = source()
    assert again.model.is_on_hub and again.location == REPO
    after = load_model(again, None).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_what_cannot_be_found(hub, monkeypatch):
    with pytest.raises(PublishError, match="acme/base cannot be found: it is no folder, and no repository"):
        source()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match="acme/base cannot be found"):
        source()


def test_a_gated_repository_says_so(repository, monkeypatch):
    repository.repository(REPO).gated = "manual"
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    with pytest.raises(PublishError, match="acme/base cannot be loaded: GatedRepoError"):
        source()
