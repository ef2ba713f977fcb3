# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Uploading a folder as one commit, and reading it back.

A commit is the only thing that changes a revision, and it comes after every large file has arrived: whatever goes
wrong before it, or in it, leaves the revision as it was. Large files that have arrived are not sent again by a later
run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, ModelInfo
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .errors import PublishError
from .folder_files import files_in, has_id

_KEPT = ".gitattributes"  # the Hub's own


@dataclass(frozen=True)
class Target:
    """
    A revision of a repository on the Hub, as it was when looked at.

    Args:
        repo_id: `ORG/NAME`.
        revision: the branch to commit to; `None` for `main`.
        exists: whether the repository is there.
        branch_exists: whether the branch is.
        head: the commit that the new one follows.
        files: git blob id or SHA-256 of each file, by path.
    """

    repo_id: str
    revision: str | None = None
    exists: bool = False
    branch_exists: bool = False
    head: str | None = None
    files: dict[str, str] = field(default_factory=dict)

    @property
    def has_content(self) -> bool:
        return any(path != _KEPT for path in self.files)


def find_target(api: HfApi, repo_id: str, revision: str | None = None) -> Target:
    """
    Look at where a repository is to go.

    Raises:
        PublishError: if there is no valid token, it may not write there, or the Hub does not answer.
    """
    try:
        _require_write_access(api, repo_id)
        return _look_at(api, repo_id, revision)
    except LocalTokenNotFoundError as error:
        raise PublishError("There is no token. Log in with `hf auth login`, or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        raise PublishError(f"{repo_id} cannot be published: {_in_words(error)}") from error
    except (HTTPError, OSError) as error:
        raise PublishError(f"The Hub at {api.endpoint} does not answer: {error}") from error


def _require_write_access(api: HfApi, repo_id: str) -> None:
    user = api.whoami()
    namespace = repo_id.split("/", maxsplit=1)[0]
    roles = {organization["name"]: organization.get("roleInOrg") for organization in user.get("orgs", [])}
    token = (user.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise PublishError(
            "The token may only read. Make one that may write at https://huggingface.co/settings/tokens."
        )
    if namespace != user["name"] and roles.get(namespace, "read") == "read":
        raise PublishError(
            f"{user['name']} may not write to {namespace}: it is neither the user itself nor an organization in which "
            "it may write."
        )


def _look_at(api: HfApi, repo_id: str, revision: str | None) -> Target:
    try:
        main = api.model_info(repo_id, files_metadata=True)
    except RepositoryNotFoundError:
        return Target(repo_id, revision)
    try:
        info = main if revision in (None, "main") else api.model_info(repo_id, revision=revision, files_metadata=True)
        branch_exists = True
    except RevisionNotFoundError:
        info, branch_exists = main, False
    return Target(repo_id, revision, True, branch_exists, info.sha, _identifiers(info))


def _identifiers(info: ModelInfo) -> dict[str, str]:
    files = info.siblings or []
    return {file.rfilename: (file.lfs.sha256 if file.lfs else file.blob_id) or "" for file in files}


def holds(target: Target, folder: Path) -> bool:
    """Whether the target's files are those of the folder, bit for bit."""
    ours = files_in(folder)
    theirs = {path: oid for path, oid in target.files.items() if path != _KEPT}
    return ours.keys() == theirs.keys() and all(has_id(path, theirs[name]) for name, path in ours.items())


def upload(
    api: HfApi,
    folder: Path,
    target: Target,
    message: str,
    private: bool | None = None,
    create_pr: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> CommitInfo:
    """
    Make the target's files those of the folder, in one commit.

    Args:
        private: of a repository that is created; `None` is the account's default.
        create_pr: commit to a pull request, not to the revision.

    Raises:
        PublishError: if it fails; the target is then as it was, or does not have the commit.
    """
    try:
        return _upload(api, folder, target, message, private, create_pr, progress)
    except HfHubHTTPError as error:
        raise PublishError(_not_published(target, _in_words(error))) from error
    except (HTTPError, OSError, RuntimeError) as error:
        raise PublishError(_not_published(target, f"{type(error).__name__}: {error}")) from error


def _upload(
    api: HfApi,
    folder: Path,
    target: Target,
    message: str,
    private: bool | None,
    create_pr: bool,
    progress: Callable[[str], None],
) -> CommitInfo:
    repo_id, head, files = target.repo_id, target.head, target.files
    if not target.exists:
        api.create_repo(repo_id, private=private)
        created = api.model_info(repo_id, files_metadata=True)
        head, files = created.sha, _identifiers(created)
    ours = files_in(folder)
    additions = [CommitOperationAdd(name, path) for name, path in ours.items()]
    stale = files.keys() - ours.keys() - {_KEPT}
    progress("uploading the large files")
    on_branch = target.revision if target.branch_exists else None
    api.preupload_lfs_files(repo_id, additions, revision=on_branch, create_pr=create_pr, free_memory=False)
    if target.revision is not None and not target.branch_exists:
        api.create_branch(repo_id, branch=target.revision, revision=head, exist_ok=True)
    progress("committing")
    return api.create_commit(
        repo_id,
        [*additions, *(CommitOperationDelete(path) for path in sorted(stale))],
        commit_message=message,
        revision=target.revision,
        create_pr=create_pr,
        parent_commit=head,
    )


def _not_published(target: Target, reason: str) -> str:
    state = f"still at {target.head}" if target.head else "empty"
    return (
        f"Nothing was published, {target.repo_id} is {state}. {reason}\n"
        "Large files that have arrived are not sent again when you run the same command once more."
    )


def download(api: HfApi, commit: CommitInfo, repo_id: str, folder: Path) -> None:
    """
    Fetch a commit, all of it, anew.

    Raises:
        PublishError: if that fails.
    """
    try:
        api.snapshot_download(repo_id, revision=commit.oid, local_dir=folder, force_download=True)
    except (HTTPError, OSError, RuntimeError) as error:
        raise PublishError(
            f"{repo_id} is published as {commit.oid}, but could not be read back: {type(error).__name__}: {error}"
        ) from error


_REASONS = {
    401: "The token is not valid. Log in with `hf auth login`, or set HF_TOKEN.",
    402: "The account's storage is used up.",
    403: "The token has no permission to do that.",
    412: "Somebody else committed meanwhile. Look at what they did, then run the command again.",
    413: "The Hub refuses the size of the files.",
    429: "The Hub refuses so many requests at this time. Try again later.",
}


def _in_words(error: HfHubHTTPError) -> str:
    status = error.response.status_code if error.response is not None else 0
    reason = _REASONS.get(status, "The Hub failed. Try again later." if status >= 500 else "")
    return f"{reason} ({status}: {error.server_message or error})".strip()
