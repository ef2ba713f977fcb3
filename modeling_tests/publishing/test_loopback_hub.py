"""The loopback Hub with the real huggingface_hub client: what is uploaded comes back, and failures leave no trace."""

import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import BertConfig

from publishing.loopback_hub import Fault, LoopbackHub, User, client_environment, patched_client
from transformers_fastvlm.publishing.card_rules import card_answer, metadata_errors

ALICE, BOB, READER = "hf_alice", "hf_bob", "hf_reader"
USERS = {
    ALICE: User("alice", orgs={"acme": "write"}),
    BOB: User("bob", orgs={"acme": "read"}),
    READER: User("alice", role="read"),
}
REPO = "alice/model"
LARGE = os.urandom(3_000_000)
CARD = b"---\nlicense: apple-amlr\npipeline_tag: image-text-to-text\nlibrary_name: transformers\n---\n# A model\n"
CUT = "(?i)disconnected|closed|reset|pipe"  # the class is the HTTP library's, which differs between versions
needs_xet = pytest.mark.skipif(find_spec("hf_xet") is None, reason="hf_xet is not installed")


@pytest.fixture
def hub(request, tmp_path, monkeypatch):
    options = getattr(request, "param", {})
    with LoopbackHub(tmp_path / "hub", USERS, **options) as hub:
        patched_client(monkeypatch, hub, ALICE, cache_dir=tmp_path / "cache", xet=options.get("xet", False))
        huggingface_hub.create_repo(REPO)
        yield hub


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "model"
    (folder / "nested").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llava_qwen2"}')
    (folder / "README.md").write_bytes(CARD)
    (folder / "model.safetensors").write_bytes(LARGE)
    (folder / "nested" / "empty.txt").touch()
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def commit(*operations, **options):
    return huggingface_hub.create_commit(REPO, operations, commit_message="A commit", **options)


def once_more_if_cut(action):
    """Older clients leave it to their caller to repeat a transfer that was cut."""
    try:
        return action()
    except Exception:
        return action()


def statuses(hub: LoopbackHub, method: str, path: str) -> list[int | None]:
    return [request.status for request in hub.requests_to(method, path)]


def test_new_repository(hub):
    assert set(hub.snapshot(REPO)) == {".gitattributes"}
    assert hub.refs(REPO) == {"refs/heads/main": hub.head(REPO)}
    assert HfApi().whoami()["name"] == "alice"
    assert huggingface_hub.repo_exists(REPO) and not huggingface_hub.repo_exists("alice/other")
    with pytest.raises(HfHubHTTPError, match="already created") as error:
        huggingface_hub.create_repo(REPO)
    assert error.value.response.status_code == 409
    assert huggingface_hub.create_repo(REPO, exist_ok=True).repo_id == REPO
    huggingface_hub.delete_repo(REPO)
    assert not huggingface_hub.repo_exists(REPO)


@pytest.mark.parametrize(
    "hub",
    [{}, {"part_size": 1_000_000}, pytest.param({"xet": True}, marks=needs_xet)],
    ids=["basic", "multipart", "xet"],
    indirect=True,
)
def test_folder_comes_back_bit_for_bit(hub, folder):
    before = hub.head(REPO)
    info = huggingface_hub.upload_folder(repo_id=REPO, folder_path=folder)
    assert info.oid == hub.head(REPO) != before
    expected = files_of(folder) | {".gitattributes": hub.snapshot(REPO)[".gitattributes"]}
    assert hub.snapshot(REPO) == expected
    assert files_of(Path(huggingface_hub.snapshot_download(REPO))) == expected
    assert hub.snapshot(REPO, before) == {".gitattributes": expected[".gitattributes"]}
    parts = [] if hub.store.xet else [LARGE] if hub.api.part_size is None else [1, 2, 3]
    assert len(hub.requests_to("PUT", "^/lfs")) == len(parts)
    large_downloads = hub.requests_to("GET", "/resolve/.*/model.safetensors")
    assert bool(large_downloads) == (hub.store.xet is None)

    huggingface_hub.upload_folder(repo_id=REPO, folder_path=folder)  # nothing has changed
    assert hub.head(REPO) == info.oid
    assert len(hub.requests_to("PUT", "^/lfs")) == len(parts)
    model = huggingface_hub.model_info(REPO, files_metadata=True)
    assert (model.card_data.license, model.pipeline_tag) == ("apple-amlr", "image-text-to-text")
    assert {file.rfilename for file in model.siblings} == set(expected)


@needs_xet
@pytest.mark.parametrize("hub", [{"xet": True}], indirect=True)
def test_xet_pull_request_and_other_processes(hub, folder, tmp_path):
    info = huggingface_hub.upload_folder(repo_id=REPO, folder_path=folder, create_pr=True)
    assert set(hub.snapshot(REPO)) == {".gitattributes"}
    huggingface_hub.merge_pull_request(REPO, info.pr_num)
    assert hub.snapshot(REPO)["model.safetensors"] == LARGE
    script = "import sys, huggingface_hub as h; print(h.hf_hub_download(sys.argv[1], 'model.safetensors'))"
    for xet in (True, False):
        environment = client_environment(hub, tmp_path / f"home-{xet}", ALICE, xet=xet)
        command = [sys.executable, "-c", script, REPO]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
        path = Path(done.stdout.strip())
        assert path.read_bytes() == LARGE and path.is_relative_to(tmp_path / f"home-{xet}")


def test_transformers_pushes_and_loads(hub):
    BertConfig(hidden_size=48).push_to_hub(REPO)
    assert BertConfig.from_pretrained(REPO).hidden_size == 48
    BertConfig(hidden_size=96).push_to_hub(REPO, revision="wide")
    assert BertConfig.from_pretrained(REPO, revision="wide").hidden_size == 96
    assert BertConfig.from_pretrained(REPO).hidden_size == 48
    with pytest.raises(OSError, match="is not a valid model identifier"):
        BertConfig.from_pretrained("alice/other")


@needs_xet
@pytest.mark.parametrize("hub", [{"xet": True}], indirect=True)
@pytest.mark.parametrize("path", ["xet-write-token", "/commit/"])
def test_refused_xet_upload(hub, folder, path):
    head, method = hub.head(REPO), "POST" if "commit" in path else "GET"
    hub.faults.append(Fault(method, path, status=403, body={"error": "Storage limit reached"}))
    with pytest.raises(Exception, match="403"):
        huggingface_hub.upload_folder(repo_id=REPO, folder_path=folder)
    assert hub.head(REPO) == head
    huggingface_hub.upload_folder(repo_id=REPO, folder_path=folder)
    assert hub.snapshot(REPO)["model.safetensors"] == LARGE


def test_branch_tag_and_history(hub):
    first = commit(add("a.txt", b"1"))
    huggingface_hub.create_branch(REPO, branch="draft/one", revision=first.oid)
    second = commit(add("a.txt", b"2"), revision="draft/one")
    assert hub.snapshot(REPO)["a.txt"] == b"1"
    assert hub.snapshot(REPO, "draft/one")["a.txt"] == b"2"
    huggingface_hub.create_tag(REPO, tag="v1", revision="draft/one")
    assert hub.refs(REPO)["refs/tags/v1"] == second.oid
    path = huggingface_hub.hf_hub_download(REPO, "a.txt", revision="v1")
    assert Path(path).read_bytes() == b"2"
    titles = [entry.title for entry in huggingface_hub.list_repo_commits(REPO, revision="draft/one")]
    assert titles == ["A commit", "A commit", "initial commit"]
    with pytest.raises(HfHubHTTPError, match="already exists"):
        huggingface_hub.create_branch(REPO, branch="draft/one")
    huggingface_hub.delete_branch(REPO, branch="draft/one")
    assert [ref.name for ref in huggingface_hub.list_repo_refs(REPO).branches] == ["main"]
    with pytest.raises(RevisionNotFoundError):
        huggingface_hub.hf_hub_download(REPO, "a.txt", revision="draft/one")
    with pytest.raises(EntryNotFoundError):
        huggingface_hub.hf_hub_download(REPO, "b.txt")


def test_pull_request(hub):
    before = hub.head(REPO)
    info = commit(add("a.txt", b"from the pull request"), create_pr=True)
    assert (info.pr_num, info.pr_revision, hub.head(REPO)) == (1, "refs/pr/1", before)
    commit(add("b.txt", b"more"), revision=info.pr_revision)
    commit(add("c.txt", b"meanwhile"))
    huggingface_hub.merge_pull_request(REPO, 1)
    assert {"a.txt", "b.txt", "c.txt"} < set(hub.snapshot(REPO))
    assert huggingface_hub.get_discussion_details(REPO, 1).status == "merged"
    conflicting = commit(add("c.txt", b"theirs"), create_pr=True)
    commit(add("c.txt", b"ours"))
    with pytest.raises(HfHubHTTPError, match="conflicts"):
        huggingface_hub.merge_pull_request(REPO, conflicting.pr_num)
    assert hub.snapshot(REPO)["c.txt"] == b"ours"


def test_deletions_and_copies_in_one_commit(hub):
    commit(add("old.txt", b"old"), add("logs/1.txt", b"1"), add("logs/2.txt", b"2"), add("model.bin", LARGE))
    commit(
        CommitOperationDelete("old.txt"),
        CommitOperationDelete("logs/"),
        CommitOperationCopy("model.bin", "copy.bin"),
        add("new.txt", b"new"),
    )
    files = hub.snapshot(REPO)
    assert set(files) == {".gitattributes", "model.bin", "copy.bin", "new.txt"}
    assert files["copy.bin"] == LARGE
    assert len(hub.requests_to("PUT", "^/lfs")) == 1
    head = hub.head(REPO)
    with pytest.raises(HfHubHTTPError):
        commit(add("other.txt", b"other"), CommitOperationDelete("missing.txt"))
    assert hub.head(REPO) == head


def test_stale_parent_commit(hub):
    parent = hub.head(REPO)
    head = commit(add("a.txt", b"1"), parent_commit=parent).oid
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        commit(add("a.txt", b"2"), parent_commit=parent)
    assert error.value.response.status_code == 412
    assert hub.head(REPO) == head


def test_private_repository(hub):
    repo = "acme/secret"
    huggingface_hub.create_repo(repo, private=True)
    huggingface_hub.upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"1")
    assert huggingface_hub.model_info(repo, token=BOB).private
    anonymous = HfApi(token=False)
    with pytest.raises(RepositoryNotFoundError) as error:
        anonymous.model_info(repo)
    assert error.value.response.status_code == 401
    huggingface_hub.create_repo("alice/secret", private=True)
    with pytest.raises(RepositoryNotFoundError) as error:
        HfApi(token=BOB).hf_hub_download("alice/secret", ".gitattributes")
    assert error.value.response.status_code == 404
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as error:
        HfApi(token="hf_wrong").model_info(REPO)
    assert error.value.response.status_code == 401


@pytest.mark.parametrize(
    ("token", "repo", "message"),
    [(BOB, "acme/model", "create_pr=1"), (READER, REPO, "write token")],
    ids=["reads-the-organization", "read-token"],
)
def test_no_right_to_write(hub, token, repo, message):
    huggingface_hub.create_repo("acme/model")
    head = hub.head(repo)
    with pytest.raises(HfHubHTTPError, match=message) as error:
        HfApi(token=token).upload_file(repo_id=repo, path_in_repo="a.txt", path_or_fileobj=b"1")
    assert error.value.response.status_code == 403
    assert hub.head(repo) == head
    with pytest.raises(HfHubHTTPError, match="rights to create"):
        HfApi(token=token).create_repo("acme/other")


def test_pull_request_without_the_right_to_write(hub):
    info = HfApi(token=BOB).create_commit(REPO, [add("a.bin", b"1")], commit_message="Mine", create_pr=True)
    assert hub.snapshot(REPO, info.pr_revision)["a.bin"] == b"1"
    assert set(hub.snapshot(REPO)) == {".gitattributes"}


def test_gated_repository(hub):
    huggingface_hub.update_repo_settings(REPO, private=True)
    assert not HfApi(token=BOB).repo_exists(REPO)
    huggingface_hub.update_repo_settings(REPO, private=False)
    huggingface_hub.update_repo_settings(REPO, gated="manual")
    with pytest.raises(GatedRepoError):
        HfApi(token=BOB).hf_hub_download(REPO, ".gitattributes")
    assert huggingface_hub.hf_hub_download(REPO, ".gitattributes")


@pytest.mark.parametrize("hub", [{"part_size": 1_000_000}, {}], ids=["multipart", "basic"], indirect=True)
def test_cut_upload_is_sent_again(hub):
    hub.faults.append(Fault("PUT", "^/lfs/", after_bytes=500_000))
    once_more_if_cut(lambda: commit(add("model.safetensors", LARGE)))
    assert hub.snapshot(REPO)["model.safetensors"] == LARGE
    sent = statuses(hub, "PUT", "^/lfs")
    assert sent.count(None) == 1 and sent.count(200) == (1 if hub.api.part_size is None else 3)


def test_upload_resumes_with_the_file_that_failed(hub):
    head, small = hub.head(REPO), LARGE[: len(LARGE) // 2]
    commit_all = [add("first.safetensors", small), add("second.safetensors", LARGE)]
    huggingface_hub.preupload_lfs_files(REPO, [commit_all[0]])
    hub.faults.append(Fault("PUT", "^/lfs/", status=402, body={"error": "Storage limit reached"}))
    with pytest.raises(RuntimeError):
        commit(*commit_all)
    assert hub.head(REPO) == head
    commit(add("first.safetensors", small), add("second.safetensors", LARGE))
    assert statuses(hub, "PUT", "^/lfs") == [200, 402, 200]
    assert hub.snapshot(REPO)["first.safetensors"] == small


@pytest.mark.parametrize("status", [402, 403, 503])
def test_refused_commit(hub, status):
    head = hub.head(REPO)
    hub.faults.append(Fault("POST", "/commit/main", status=status, body={"error": "Storage limit reached"}))
    with pytest.raises(HfHubHTTPError, match="Storage limit reached") as error:
        commit(add("model.safetensors", LARGE))
    assert error.value.response.status_code == status
    assert hub.head(REPO) == head and set(hub.snapshot(REPO)) == {".gitattributes"}
    commit(add("model.safetensors", LARGE))
    assert hub.snapshot(REPO)["model.safetensors"] == LARGE
    assert len(hub.requests_to("PUT", "^/lfs")) == 1


def test_commit_cut_before_and_after_it_is_made(hub):
    head = hub.head(REPO)
    hub.faults.append(Fault("POST", "/commit/", after_bytes=100))
    with pytest.raises(Exception, match=CUT):
        commit(add("a.txt", b"1" * 1000))
    assert hub.head(REPO) == head
    hub.faults.append(Fault("POST", "/commit/", after_bytes=0, at="response"))
    with pytest.raises(Exception, match=CUT):
        commit(add("a.txt", b"1" * 1000))
    assert hub.snapshot(REPO)["a.txt"] == b"1" * 1000


def test_wrong_and_missing_contents_are_refused(hub):
    head = hub.head(REPO)
    wrong = add("model.safetensors", LARGE)
    wrong.path_or_fileobj = b"x" + LARGE[1:]
    with pytest.raises(RuntimeError) as error:
        commit(wrong)
    assert "The content is not the 3000000 bytes" in str(error.value.__cause__)
    never_sent = add("model.safetensors", LARGE)
    never_sent._upload_mode, never_sent._is_uploaded = "lfs", True
    with pytest.raises(HfHubHTTPError, match="has not been uploaded"):
        commit(never_sent)
    assert hub.head(REPO) == head


def test_cut_download_is_resumed(hub, monkeypatch):
    # The client keeps the chunks that it has read in full.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    commit(add("model.safetensors", LARGE))
    hub.faults.append(Fault("GET", "model.safetensors", after_bytes=1_000_000, at="response"))
    path = once_more_if_cut(lambda: huggingface_hub.hf_hub_download(REPO, "model.safetensors"))
    assert Path(path).read_bytes() == LARGE
    assert statuses(hub, "GET", "model.safetensors") == [None, 206]
    assert sum(request.sent for request in hub.requests_to("GET", "model.safetensors")) < len(LARGE) + (1 << 16)


def test_card_is_checked_before_anything_is_sent(hub):
    with pytest.raises(ValueError, match="license"):
        commit(add("README.md", b"---\nlicense: my-own\n---\n"), add("model.safetensors", LARGE))
    assert set(hub.snapshot(REPO)) == {".gitattributes"} and not hub.requests_to("PUT", "^/lfs")


def test_server_leaves_no_thread(tmp_path, monkeypatch):
    before = set(threading.enumerate())
    with LoopbackHub(tmp_path / "hub", USERS) as hub:
        patched_client(monkeypatch, hub, ALICE, cache_dir=tmp_path)
        huggingface_hub.create_repo(REPO)  # its connection is kept open
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before


GOOD_CARD = {
    "license": "other",
    "license_name": "own",
    "license_link": "LICENSE",
    "language": ["en", "multilingual"],
    "pipeline_tag": "image-text-to-text",
    "base_model": "alice/base",
    "base_model_relation": "finetune",
    "library_name": "transformers",
    "tags": ["vision"],
    "model-index": [
        {
            "name": "model",
            "results": [
                {
                    "task": {"type": "image-text-to-text"},
                    "dataset": {"name": "VQA", "type": "vqa"},
                    "metrics": [{"type": "accuracy", "value": 0.5}],
                }
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("license", "apple"),
        ("license_name", ["own"]),
        ("language", "English"),
        ("pipeline_tag", "vision-language"),
        ("base_model", "checkpoints/a/b"),
        ("base_model_relation", "derived"),
        ("library_name", "Transformers"),
        ("tags", "vision"),
        ("datasets", [1]),
        ("model-index", [{"name": "model", "results": [{"metrics": []}]}]),
    ],
)
def test_metadata_rules(key, value):
    assert metadata_errors(GOOD_CARD) == []
    errors = metadata_errors(GOOD_CARD | {key: value})
    assert errors and all(f'"{key}' in error for error in errors)


def test_card_is_read_as_the_hub_reads_it():
    assert card_answer("---\nlanguage: no\nlicense: mit\n---\n") == {"errors": [], "warnings": []}
    assert card_answer("# No metadata")["warnings"]
    assert "duplicated" in card_answer("---\nlicense: mit\nlicense: mit\n---\n")["errors"][0]["message"]
    assert card_answer("---\nlicense: [mit\n---\n")["errors"]
