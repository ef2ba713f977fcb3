# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The loopback Hub's state: users, and repositories with refs, immutable commits and pull requests."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

MAIN = "refs/heads/main"
WRITERS = ("write", "admin")
LFS_NAMES = """
*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx *.ot
*.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz *.wasm *.xz
*.zip *.zst *tfevents*
"""
GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_NAMES.split()).encode()


class HubError(Exception):
    """An answer that refuses a request: its status, and what the Hub's headers and body say of it."""

    def __init__(
        self, status: int, message: str, code: str | None = None, body: dict | None = None, headers: dict | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | (headers or {})
        self.body = {"error": message} | (body or {})


@dataclass(frozen=True)
class User:
    """The owner of a token, its role in each organization, and what the token allows: `write` or `read`."""

    name: str
    orgs: Mapping[str, str] = field(default_factory=dict)
    role: str = "write"

    def may_read(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.orgs

    def may_write(self, namespace: str) -> bool:
        return self.role == "write" and (namespace == self.name or self.orgs.get(namespace) in WRITERS)


@dataclass(frozen=True)
class RepoFile:
    """A file of a commit: its content's hash and size, and git's own id of the blob or of the LFS pointer."""

    sha256: str
    size: int
    git_oid: str
    pointer_size: int | None = None  # None: a regular file

    @property
    def lfs(self) -> bool:
        return self.pointer_size is not None

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    description: str
    author: str
    date: str
    files: Mapping[str, RepoFile]


@dataclass
class PullRequest:
    num: int
    title: str
    author: str
    base: str
    created: str
    status: str = "open"
    merge_commit: str | None = None

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Repository:
    """Refs and the commits they point to. A commit is added and its ref moved in one step, or not at all."""

    def __init__(self, repo_id: str, kind: str, author: str, gitattributes: RepoFile, private: bool = False) -> None:
        self.repo_id = repo_id
        self.kind = kind
        self.private = private
        self.gated: bool | str = False
        self.created = now()
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.pulls: list[PullRequest] = []
        self.lfs_objects: set[str] = set()
        self.add_commit(MAIN, None, {".gitattributes": gitattributes}, "initial commit", "", author)

    @property
    def namespace(self) -> str:
        return self.repo_id.split("/")[0]

    def find_ref(self, revision: str) -> str | None:
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in names if name in self.refs), None)

    def resolve(self, revision: str) -> Commit:
        """The commit of a branch, tag, pull request ref, or (shortened) commit id."""
        ref = self.find_ref(revision)
        if ref is not None:
            return self.commits[self.refs[ref]]
        found = [oid for oid in self.commits if len(revision) >= 7 and oid.startswith(revision)]
        if len(found) != 1:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[found[0]]

    def history(self, revision: str) -> Iterator[Commit]:
        commit: Commit | None = self.resolve(revision)
        while commit is not None:
            yield commit
            commit = self.commits[commit.parent] if commit.parent else None

    def add_commit(
        self, ref: str, parent: str | None, files: Mapping[str, RepoFile], title: str, description: str, author: str
    ) -> Commit:
        date = now()
        tree = "".join(f"{path} {file.git_oid}\n" for path, file in sorted(files.items()))
        identity = f"{len(self.commits)} {parent} {author} {date} {title}\n{description}\n{tree}"
        oid = hashlib.sha1(identity.encode()).hexdigest()
        frozen = MappingProxyType(dict(files))
        self.commits[oid] = Commit(oid, parent, title, description, author, date, frozen)
        self.refs[ref] = oid
        return self.commits[oid]

    def create_ref(self, ref: str, oid: str) -> None:
        if ref in self.refs:
            raise HubError(409, f"Reference already exists: {ref}")
        self.refs[ref] = oid

    def delete_ref(self, ref: str) -> None:
        if ref == MAIN:
            raise HubError(403, "The branch main cannot be deleted")
        if self.refs.pop(ref, None) is None:
            raise HubError(404, f"Invalid rev id: {ref}", "RevisionNotFound")

    def open_pull_request(self, title: str, author: str, base: str, status: str = "open") -> PullRequest:
        pull = PullRequest(len(self.pulls) + 1, title, author, base, now(), status)
        self.pulls.append(pull)
        self.refs[pull.ref] = base
        return pull

    def pull_request(self, num: int) -> PullRequest:
        if not 1 <= num <= len(self.pulls):
            raise HubError(404, "Discussion not found", "EntryNotFound")
        return self.pulls[num - 1]

    def merge(self, num: int, author: str) -> Commit:
        """The pull request's changes on top of main; refused where main has changed the same files since."""
        pull = self.pull_request(num)
        if pull.status not in ("open", "draft"):
            raise HubError(409, f"The pull request is {pull.status}")
        base, head = self.commits[pull.base].files, self.resolve(pull.ref).files
        main = self.resolve(MAIN)
        changed = {path for path in {*base, *head} if base.get(path) != head.get(path)}
        conflicts = sorted(path for path in changed if main.files.get(path) != base.get(path))
        if conflicts:
            raise HubError(409, f"This pull request has conflicts: {', '.join(conflicts)}")
        files = {path: file for path, file in main.files.items() if path not in changed}
        files |= {path: head[path] for path in changed if path in head}
        title = f"{pull.title} (#{num})"
        commit = self.add_commit(MAIN, main.oid, files, title, "", author)
        pull.status, pull.merge_commit = "merged", commit.oid
        return commit


def lfs_patterns(gitattributes: bytes) -> list[str]:
    lines = (line.split() for line in gitattributes.decode().splitlines())
    return [line[0] for line in lines if "filter=lfs" in line[1:]]


def is_lfs_path(path: str, patterns: list[str]) -> bool:
    name = path.rsplit("/", 1)[-1]
    return any(fnmatchcase(path if "/" in pattern else name, pattern.replace("**/*", "*")) for pattern in patterns)


def folders(paths: Mapping[str, Any]) -> set[str]:
    """Every folder above the paths of a tree."""
    parts = (path.split("/")[:-1] for path in paths)
    return {"/".join(prefix) for folder in parts for prefix in itertools.accumulate([[part] for part in folder])}


def check_path(path: str) -> str:
    if not path or path.startswith("/") or any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise HubError(400, f"Invalid path in the commit: {path!r}")
    return path
