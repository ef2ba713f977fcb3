# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Uploads are all or nothing, whatever fails in between, through the real client and its protocol."""

from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from publishing.loopback_hub import Fault, LoopbackHub, User, patched_client
from transformers_fastvlm.publishing.errors import PublishError
from transformers_fastvlm.publishing.hub_transfer import download, find_target, holds, upload

REPO = "acme/reader"
LARGE = "model.safetensors"
LFS_PUT = r"/lfs/"


@pytest.fixture
def folder(tmp_path):
    """A repository of two small files and one large one, which is sent apart from the commit."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Reader\n")
    (folder / "config.json").write_text("{}\n")
    (folder / LARGE).write_bytes(np.random.RandomState(0).bytes(3_000_000))
    return folder


@pytest.fixture
def api(hub):
    return HfApi()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without_attributes(snapshot):
    return {path: content for path, content in snapshot.items() if path != ".gitattributes"}


def publish(api, folder, **options):
    revision = options.pop("revision", None)
    return upload(api, folder, find_target(api, REPO, revision), "Upload", **options)


def change(folder):
    (folder / "config.json").write_text('{"changed": true}\n')
    (folder / LARGE).write_bytes(np.random.RandomState(1).bytes(3_000_000))


def test_a_new_repository_has_the_folder_in_one_commit(hub, api, folder, tmp_path):
    commit = publish(api, folder)
    assert without_attributes(hub.snapshot(REPO)) == contents(folder)
    assert hub.head(REPO) == commit.oid
    assert len(hub.requests_to("POST", "/commit/")) == 1
    download(api, commit, REPO, tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir() if path.is_file()} == hub.snapshot(
        REPO
    )
    assert holds(find_target(api, REPO), folder)


def test_stale_files_go_in_the_same_commit(hub, api, folder):
    publish(api, folder)
    (folder / "config.json").unlink()
    (folder / "generation_config.json").write_text("{}\n")
    assert not holds(find_target(api, REPO), folder)
    publish(api, folder)
    assert set(hub.snapshot(REPO)) == {".gitattributes", "README.md", "generation_config.json", LARGE}
    assert len(hub.requests_to("POST", "/commit/")) == 2


def test_a_branch_is_made_and_leaves_main(hub, api, folder):
    publish(api, folder)
    before = hub.snapshot(REPO)
    change(folder)
    publish(api, folder, revision="bf16")
    assert hub.snapshot(REPO) == before
    assert without_attributes(hub.snapshot(REPO, "bf16")) == contents(folder)
    assert find_target(api, REPO, "bf16").branch_exists


def test_a_pull_request_leaves_main_until_it_is_merged(hub, api, folder):
    publish(api, folder)
    before = hub.snapshot(REPO)
    change(folder)
    commit = publish(api, folder, create_pr=True)
    assert commit.pr_revision == "refs/pr/1"
    assert hub.snapshot(REPO) == before
    assert without_attributes(hub.snapshot(REPO, "refs/pr/1")) == contents(folder)
    api.merge_pull_request(REPO, commit.pr_num)
    assert without_attributes(hub.snapshot(REPO)) == contents(folder)


FAULTS = {
    "cut within a large file": Fault("PUT", LFS_PUT, times=20, after_bytes=1_000_000),
    "quota": Fault("POST", r"/info/lfs/objects/batch", times=20, status=402, body={"error": "quota exceeded"}),
    "server error at the commit": Fault("POST", "/commit/", times=20, status=500),
    "no permission at the commit": Fault("POST", "/commit/", times=20, status=403, body={"error": "read only"}),
    "cut within the commit": Fault("POST", "/commit/", times=20, after_bytes=10),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_in_the_middle_leaves_the_old_state_and_can_be_resumed(fault, hub, api, folder, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits longer before each new try
    publish(api, folder)
    before = hub.snapshot(REPO), hub.refs(REPO)
    change(folder)
    hub.faults.append(replace(FAULTS[fault]))
    with pytest.raises(PublishError, match=f"Nothing was published, {REPO} is still at {hub.head(REPO)}"):
        publish(api, folder)
    assert (hub.snapshot(REPO), hub.refs(REPO)) == before

    hub.faults.clear()
    hub.requests.clear()
    publish(api, folder)
    assert without_attributes(hub.snapshot(REPO)) == contents(folder)
    sent_before = "commit" in fault
    assert len(hub.requests_to("PUT", LFS_PUT)) == (0 if sent_before else 1)


def test_a_first_upload_that_fails_leaves_an_empty_repository(hub, api, folder, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.faults.append(Fault("PUT", LFS_PUT, times=20, after_bytes=1_000_000))
    with pytest.raises(PublishError, match="acme/reader is empty"):
        publish(api, folder)
    assert set(hub.snapshot(REPO)) == {".gitattributes"}
    hub.faults.clear()
    publish(api, folder)
    assert without_attributes(hub.snapshot(REPO)) == contents(folder)


def test_somebody_else_commits_meanwhile(hub, api, folder):
    publish(api, folder)
    change(folder)
    target = find_target(api, REPO)
    api.create_commit(REPO, [CommitOperationAdd("theirs.txt", b"theirs")], commit_message="Theirs")
    before = hub.snapshot(REPO)
    with pytest.raises(PublishError, match="Somebody else committed meanwhile"):
        upload(api, folder, target, "Upload")
    assert hub.snapshot(REPO) == before


def test_private_repositories(hub, api, folder):
    publish(api, folder, private=True)
    assert hub.repository(REPO).private
    assert find_target(HfApi(token="hf_alice"), REPO).has_content
    with pytest.raises(PublishError, match="bob may not write to acme"):
        find_target(HfApi(token="hf_bob"), REPO)


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        ("hf_wrong", REPO, "The token is not valid"),
        (None, REPO, "There is no token"),
        ("hf_reader", "alice/reader", "The token may only read"),
        ("hf_bob", REPO, "bob may not write to acme"),
        ("hf_alice", "readers/reader", "alice may not write to readers"),
    ],
)
def test_who_may_not_write_is_told_before_anything_is_sent(token, repo_id, message, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PublishError, match=message):
        find_target(HfApi(token=token), repo_id)
    assert not hub.requests_to("POST", "")


def test_no_hub_there(folder, hub):
    with pytest.raises(PublishError, match="does not answer"):
        find_target(HfApi(endpoint="http://127.0.0.1:9", token="hf_alice"), REPO)


def test_through_xet(tmp_path, monkeypatch, folder):
    pytest.importorskip("hf_xet", reason="hf_xet is not installed here")
    with LoopbackHub(tmp_path / "hub", {"hf_alice": User("alice", orgs={"acme": "write"})}, xet=True) as hub:
        patched_client(monkeypatch, hub, token="hf_alice", cache_dir=tmp_path / "cache", xet=True)
        api = HfApi()
        commit = publish(api, folder)
        download(api, commit, REPO, tmp_path / "again")
        assert (tmp_path / "again" / LARGE).read_bytes() == (folder / LARGE).read_bytes()
        assert hub.requests_to("GET", "xet-write-token")
        assert not hub.requests_to("PUT", LFS_PUT)
