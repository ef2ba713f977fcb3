# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The commit endpoint's payload: one JSON line for its header and for each operation."""

import base64
import io
import json

from publishing.hub_repositories import Commit, HubError, RepoFile, Repository, check_path
from publishing.hub_storage import BlobStore, git_oid, lfs_pointer
from transformers_fastvlm.publishing.card_rules import card_answer
from transformers_fastvlm.publishing.hub_lists import HubLists


def regular_file(store: BlobStore, content: bytes) -> RepoFile:
    return RepoFile(store.add(io.BytesIO(content)), len(content), git_oid(content))


def lfs_file(sha256: str, size: int) -> RepoFile:
    pointer = lfs_pointer(sha256, size)
    return RepoFile(sha256, size, git_oid(pointer), len(pointer))


def parse_commit(body: bytes) -> tuple[dict, list[tuple[str, dict]]]:
    """The header and the (kind, value) operations of a commit request."""
    try:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        operations = [(line["key"], line["value"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise HubError(400, f"The commit is not valid ndjson: {error!r}") from error
    headers = [value for key, value in operations if key == "header"]
    if len(headers) != 1 or not headers[0].get("summary"):
        raise HubError(400, "The commit needs one header with a summary")
    return headers[0], [operation for operation in operations if operation[0] != "header"]


class TreeEdit:
    """The tree of a commit to be: nothing of it is visible before all of its operations have been accepted."""

    def __init__(
        self, repository: Repository, store: BlobStore, parent: Commit, regular_limit: int, lists: HubLists
    ) -> None:
        self.repository = repository
        self.store = store
        self.files = dict(parent.files)
        self.regular_limit = regular_limit
        self.lists = lists
        self.actions = {
            "file": self.add_regular,
            "lfsFile": self.add_lfs,
            "deletedFile": self.delete_file,
            "deletedFolder": self.delete_folder,
            "copyFile": self.copy_file,
        }

    def apply(self, operations: list[tuple[str, dict]]) -> dict[str, RepoFile]:
        for kind, value in operations:
            if kind not in self.actions:
                raise HubError(400, f"Unknown operation in the commit: {kind!r}")
            self.actions[kind](value)
        return self.files

    def add_regular(self, value: dict) -> None:
        path = check_path(value["path"])
        encoded = value.get("encoding") == "base64"
        content = base64.b64decode(value["content"], validate=True) if encoded else value["content"].encode()
        if len(content) > self.regular_limit:
            raise HubError(400, f"Your push was rejected because {path} is too large to be a regular file: use LFS")
        if path == "README.md":
            errors = card_answer(content.decode(), self.lists)["errors"]
            if errors:
                raise HubError(400, errors[0]["message"], body={"errors": errors})
        self.files[path] = regular_file(self.store, content)

    def add_lfs(self, value: dict) -> None:
        path, oid = check_path(value["path"]), value["oid"]
        if value.get("algo") != "sha256":
            raise HubError(400, "LFS files are identified by sha256")
        if oid not in self.repository.lfs_objects and self.store.find_xet(oid) is None:
            raise HubError(400, f"Your push was rejected: the LFS object {oid} of {path} has not been uploaded")
        size = self.store.size(oid)
        if value.get("size", size) != size:
            raise HubError(400, f"Your push was rejected: {path} has the size {size}, not {value['size']}")
        self.files[path] = lfs_file(oid, size)

    def delete_file(self, value: dict) -> None:
        if self.files.pop(value["path"], None) is None:
            raise HubError(404, f"Entry not found: {value['path']}", "EntryNotFound")

    def delete_folder(self, value: dict) -> None:
        prefix = value["path"].rstrip("/") + "/"
        inside = [path for path in self.files if path.startswith(prefix)]
        if not inside:
            raise HubError(404, f"Entry not found: {value['path']}", "EntryNotFound")
        for path in inside:
            del self.files[path]

    def copy_file(self, value: dict) -> None:
        revision = value.get("srcRevision")
        source = self.repository.resolve(revision).files if revision else self.files
        if value["srcPath"] not in source:
            raise HubError(404, f"Entry not found: {value['srcPath']}", "EntryNotFound")
        self.files[check_path(value["path"])] = source[value["srcPath"]]
