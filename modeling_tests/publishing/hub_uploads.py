# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The Hub's endpoints for uploads: which files are large, LFS objects in one piece or in parts, and commits."""

import io
import secrets
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from publishing.hub_api import RepositoryEndpoints
from publishing.hub_commits import TreeEdit, parse_commit
from publishing.hub_protocol import API, WEB, Request, Response, answer, joined, route
from publishing.hub_repositories import HubError, RepoFile, Repository, is_lfs_path, lfs_patterns
from publishing.hub_storage import sha256_of


@dataclass(frozen=True)
class Upload:
    """A large file that the LFS batch endpoint has asked for; its token is what a presigned URL carries."""

    repository: Repository
    oid: str
    size: int
    parts: dict[int, bytes] = field(default_factory=dict)


class HubApi(RepositoryEndpoints):
    """All endpoints of the loopback Hub."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.uploads: dict[str, Upload] = {}

    @route("POST", f"{API}/preupload/(?P<revision>[^/]+)")
    def preupload(self, request: Request, kind: str, repo: str, revision: str) -> Response:
        repository = self.writable(request, repo, kind, pull_request=request.flag("create_pr"))
        files = repository.resolve(revision).files
        attributes = files.get(".gitattributes")
        patterns = lfs_patterns(self.store.read(attributes.sha256)) if attributes is not None else []
        asked = request.json()["files"]
        return answer({"files": [self.upload_mode(file, files.get(file["path"]), patterns) for file in asked]})

    def upload_mode(self, asked: dict, present: RepoFile | None, patterns: list[str]) -> dict:
        large = is_lfs_path(asked["path"], patterns) or asked["size"] > self.lfs_threshold
        oid = {"oid": present.etag} if present is not None else {}
        return {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False} | oid

    @route("POST", f"{WEB}\\.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request, repo: str, kind: str = "models") -> Response:
        repository = self.writable(request, repo, kind, pull_request=True)
        payload = request.json()
        transfers = payload.get("transfers", ["basic"])
        if self.store.xet is not None and "xet" in transfers:
            return answer({"transfer": "xet", "objects": payload["objects"]})
        objects = [self.lfs_object(repository, asked, "multipart" in transfers) for asked in payload["objects"]]
        return answer({"transfer": "basic", "objects": objects})

    def lfs_object(self, repository: Repository, asked: dict, multipart: bool) -> dict:
        oid, size = asked["oid"], asked["size"]
        found = {"oid": oid, "size": size, "authenticated": True}
        if oid in repository.lfs_objects:
            return found
        token = secrets.token_hex(8)
        self.uploads[token] = Upload(repository, oid, size)
        url = f"{self.endpoint}/lfs/objects/{oid}"
        action: dict[str, Any] = {"href": f"{url}?upload={token}"}
        if multipart and self.part_size is not None and size > self.part_size:
            count = -(-size // self.part_size)
            parts = {f"{part:05d}": f"{url}/parts/{part}?upload={token}" for part in range(1, count + 1)}
            action = {"href": f"{url}/complete?upload={token}", "header": {"chunk_size": str(self.part_size), **parts}}
        verify = f"{self.endpoint}/{repository.kind}/{repository.repo_id}.git/info/lfs/objects/verify"
        return found | {"actions": {"upload": action, "verify": {"href": verify}}}

    def upload_of(self, request: Request, oid: str) -> Upload:
        upload = self.uploads.get(request.query.get("upload", [""])[0])
        if upload is None or upload.oid != oid:
            raise HubError(403, "The upload URL has not been issued for this object")
        return upload

    @route("PUT", "/lfs/objects/(?P<oid>[0-9a-f]{64})")
    def put_object(self, request: Request, oid: str) -> Response:
        return self.store_object(self.upload_of(request, oid), request.body)

    @route("PUT", "/lfs/objects/(?P<oid>[0-9a-f]{64})/parts/(?P<part>\\d+)")
    def put_part(self, request: Request, oid: str, part: str) -> Response:
        self.upload_of(request, oid).parts[int(part)] = request.data
        return Response(headers={"ETag": f'"{oid[:8]}-{part}"'})

    @route("POST", "/lfs/objects/(?P<oid>[0-9a-f]{64})/complete")
    def complete(self, request: Request, oid: str) -> Response:
        upload = self.upload_of(request, oid)
        numbers = [part["partNumber"] for part in request.json()["parts"]]
        if numbers != sorted(upload.parts):
            raise HubError(400, f"The upload has the parts {sorted(upload.parts)}, not {numbers}")
        return self.store_object(upload, joined(upload.parts[number] for number in numbers))

    def store_object(self, upload: Upload, content: BinaryIO) -> Response:
        size = content.seek(0, io.SEEK_END)
        if (sha256_of(content), size) != (upload.oid, upload.size):
            raise HubError(400, f"The content is not the {upload.size} bytes of {upload.oid}")
        self.store.add(content)
        upload.repository.lfs_objects.add(upload.oid)
        return answer({})

    @route("POST", "/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)\\.git/info/lfs/objects/verify")
    def verify(self, request: Request, kind: str, repo: str) -> Response:
        repository, asked = self.writable(request, repo, kind, pull_request=True), request.json()
        if asked["oid"] not in repository.lfs_objects or self.store.size(asked["oid"]) != asked["size"]:
            raise HubError(404, f"The object {asked['oid']} has not been uploaded")
        return answer({})

    @route("POST", f"{API}/commit/(?P<revision>[^/]+)")
    def commit(self, request: Request, kind: str, repo: str, revision: str) -> Response:
        as_pull_request = request.flag("create_pr")
        to_pull_request = as_pull_request or revision.startswith("refs/pr/")
        repository = self.writable(request, repo, kind, pull_request=to_pull_request)
        header, operations = parse_commit(request.data)
        head, named = repository.resolve(revision), header.get("parentCommit")
        parent = repository.resolve(named) if named else head
        ref = repository.find_ref(revision)
        if parent is not head and not as_pull_request:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        if ref is None:
            raise HubError(400, f"Cannot commit to {revision}: it is not a branch")
        files = TreeEdit(repository, self.store, parent, self.lfs_threshold, self.lists).apply(operations)
        prefix = "" if kind == "models" else f"{kind}/"
        title, author, pull_url = header["summary"], request.user.name, None
        if as_pull_request:
            pull = repository.open_pull_request(title, author, parent.oid)
            ref, pull_url = pull.ref, f"{self.endpoint}/{prefix}{repo}/discussions/{pull.num}"
        made = repository.add_commit(ref, parent.oid, files, title, header.get("description", ""), author)
        url = f"{self.endpoint}/{prefix}{repo}/commit/{made.oid}"
        found = {"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""}
        return answer(found | ({"pullRequestUrl": pull_url} if pull_url else {}))
