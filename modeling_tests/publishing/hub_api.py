# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The Hub's endpoints for users, repositories, files, refs and pull requests."""

import secrets
import time
from collections.abc import Iterable
from urllib.parse import parse_qs

import yaml

from publishing.hub_commits import regular_file
from publishing.hub_protocol import API, WEB, Endpoints, Request, Response, answer, ranged, route
from publishing.hub_repositories import (
    GITATTRIBUTES,
    MAIN,
    Commit,
    HubError,
    PullRequest,
    RepoFile,
    Repository,
    folders,
)
from transformers_fastvlm.publishing.card_rules import card_answer, card_metadata

XET_TOKEN_SECONDS = 3600


class RepositoryEndpoints(Endpoints):
    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> Response:
        user = request.user
        if user is None:
            raise HubError(401, "Invalid username or password.")
        orgs = [{"type": "org", "name": name, "roleInOrg": role} for name, role in user.orgs.items()]
        token = {"displayName": "token", "role": user.role}
        auth = {"type": "access_token", "accessToken": token}
        named = {"id": user.name, "name": user.name, "fullname": user.name, "email": f"{user.name}@localhost"}
        return answer({"type": "user", **named, "isPro": False, "orgs": orgs, "auth": auth})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Response:
        found = card_answer(request.json()["content"], self.lists)
        return answer(found, 400 if found["errors"] else 200)

    @route("GET", "/api/models-tags-by-type")
    def tags_by_type(self, request: Request) -> Response:
        kinds = {"license": ("license:", self.lists.licenses), "pipeline_tag": ("", self.lists.pipeline_tags)}
        return answer(
            {
                kind: [{"id": f"{prefix}{name}", "label": name, "type": kind} for name in sorted(names)]
                for kind, (prefix, names) in kinds.items()
            }
        )

    @route("POST", "/api/repos/create")
    def create_repository(self, request: Request) -> Response:
        payload = request.json()
        kind = payload.get("type") or "model"
        repo_id = self.own_repo_id(request, payload, f"create a {kind}")
        url = f"{self.endpoint}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
        if (f"{kind}s", repo_id) in self.repositories:
            raise HubError(409, f"You already created this {kind} repo", body={"url": url})
        private = payload.get("visibility") == "private" or bool(payload.get("private"))
        gitattributes = regular_file(self.store, GITATTRIBUTES)
        repository = Repository(repo_id, f"{kind}s", request.user.name, gitattributes, private)
        self.repositories[f"{kind}s", repo_id] = repository
        return answer({"url": url, "name": repo_id, "id": repo_id})

    @route("DELETE", "/api/repos/delete")
    def delete_repository(self, request: Request) -> Response:
        payload = request.json()
        kind = f"{payload.get('type') or 'model'}s"
        repo_id = self.own_repo_id(request, payload, "delete a repository")
        self.writable(request, repo_id, kind)
        del self.repositories[kind, repo_id]
        return Response()

    def own_repo_id(self, request: Request, payload: dict, action: str) -> str:
        if request.user is None:
            raise HubError(401, "Invalid username or password.")
        namespace = payload.get("organization") or request.user.name
        if not request.user.may_write(namespace):
            raise HubError(403, f'You don\'t have the rights to {action} under the namespace "{namespace}"')
        return f"{namespace}/{payload['name']}"

    @route("PUT", f"{API}/settings")
    def change_settings(self, request: Request, kind: str, repo: str) -> Response:
        repository, payload = self.writable(request, repo, kind), request.json()
        repository.gated = payload.get("gated", repository.gated)
        if "visibility" in payload or "private" in payload:
            repository.private = payload.get("visibility") == "private" or bool(payload.get("private"))
        return answer({"private": repository.private, "gated": repository.gated})

    @route("GET", f"{API}(/revision/(?P<revision>[^/]+))?")
    def repository_info(self, request: Request, kind: str, repo: str, revision: str = "main") -> Response:
        repository = self.readable(request, repo, kind)
        commit = repository.resolve(revision)
        metadata = self.metadata(commit)
        siblings = [{"rfilename": path} | self.sibling(file) for path, file in commit.files.items()]
        tags = [*metadata.get("tags", []), *filter(None, [metadata.get("library_name"), metadata.get("pipeline_tag")])]
        return answer(
            {
                "_id": repo,
                "id": repo,
                "modelId": repo,
                "author": repository.namespace,
                "sha": commit.oid,
                "lastModified": commit.date,
                "createdAt": repository.created,
                "private": repository.private,
                "gated": repository.gated,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": tags,
                "siblings": siblings,
                **({"cardData": metadata} if metadata else {}),
                **{key: metadata[key] for key in ("library_name", "pipeline_tag", "model-index") if key in metadata},
            }
        )

    def metadata(self, commit: Commit) -> dict:
        card = commit.files.get("README.md")
        try:
            return (card_metadata(self.store.read(card.sha256).decode()) if card is not None else None) or {}
        except yaml.YAMLError:
            return {}

    def sibling(self, file: RepoFile) -> dict:
        lfs = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
        return {"size": file.size, "blobId": file.git_oid} | ({"lfs": lfs} if file.lfs else {})

    @route("GET", f"{API}/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?")
    def tree(self, request: Request, kind: str, repo: str, revision: str, folder: str = "") -> Response:
        commit = self.readable(request, repo, kind).resolve(revision)
        prefix = f"{folder.rstrip('/')}/" if folder else ""
        inside = {path: file for path, file in commit.files.items() if path.startswith(prefix)}
        if folder and not inside:
            raise HubError(404, f'{folder} does not exist on "{revision}"', "EntryNotFound")
        paths = [path for path in sorted(folders(inside) | set(inside)) if path.startswith(prefix)]
        if not request.flag("recursive"):
            paths = [path for path in paths if "/" not in path[len(prefix) :]]
        return answer(self.entries(commit, paths))

    @route("POST", f"{API}/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, request: Request, kind: str, repo: str, revision: str) -> Response:
        commit = self.readable(request, repo, kind).resolve(revision)
        as_json = "json" in request.headers.get("Content-Type", "")
        paths = request.json()["paths"] if as_json else parse_qs(request.data.decode()).get("paths", [])
        return answer(self.entries(commit, paths))

    def entries(self, commit: Commit, paths: Iterable[str]) -> list[dict]:
        above = folders(commit.files)
        found = [path for path in paths if path in commit.files or path in above]
        return [self.entry(path, commit.files.get(path), commit) for path in found]

    def entry(self, path: str, file: RepoFile | None, commit: Commit) -> dict:
        last = {"lastCommit": {"id": commit.oid, "title": commit.title, "date": commit.date}}
        if file is None:
            return {"type": "directory", "oid": commit.oid, "size": 0, "path": path, **last}
        entry = {"type": "file", "oid": file.git_oid, "size": file.size, "path": path, **last}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
        uploaded = self.store.find_xet(file.sha256) if file.lfs else None
        return entry | ({"xetHash": uploaded.xet_hash} if uploaded is not None else {})

    @route("GET HEAD", f"{WEB}/(resolve|raw)/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, request: Request, repo: str, revision: str, path: str, kind: str = "models") -> Response:
        repository = self.readable(request, repo, kind)
        commit = repository.resolve(revision)
        if repository.gated and (request.user is None or not request.user.may_read(repository.namespace)):
            status = 403 if request.user is not None else 401
            raise HubError(status, f"Access to model {repo} is restricted.", "GatedRepo")
        known = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        file = commit.files.get(path)
        if file is None:
            raise HubError(404, "Entry not found", "EntryNotFound", headers=known)
        known["ETag"] = f'"{file.etag}"'
        if file.lfs:
            known |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            known |= self.xet_headers(repository, file, commit)
        if request.method == "HEAD":
            return Response(200, b"", known | {"Content-Length": str(file.size)})
        return ranged(self.store.read(file.sha256), request.headers.get("Range"), known)

    def xet_headers(self, repository: Repository, file: RepoFile, commit: Commit) -> dict[str, str]:
        uploaded = self.store.find_xet(file.sha256)
        if uploaded is None:
            return {}
        refresh = f"{self.endpoint}/api/{repository.kind}/{repository.repo_id}/xet-read-token/{commit.oid}"
        return {
            "X-Xet-Hash": uploaded.xet_hash,
            "X-Xet-Refresh-Route": refresh,
            "Link": f'<{refresh}>; rel="xet-auth"',
        }

    @route("GET", f"{API}/xet-(?P<access>read|write)-token(/(?P<revision>[^/]+))?")
    def xet_token(self, request: Request, kind: str, repo: str, access: str, revision: str = "main") -> Response:
        if self.store.xet is None:
            raise HubError(404, "This repository is not Xet enabled")
        if access == "write":
            self.writable(request, repo, kind, pull_request=request.flag("create_pr"))
        else:
            self.readable(request, repo, kind)
        token, expiry, url = secrets.token_hex(8), int(time.time()) + XET_TOKEN_SECONDS, self.store.xet.url
        headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expiry)}
        return answer({"casUrl": url, "accessToken": token, "exp": expiry}, headers=headers)

    @route("GET", f"{API}/refs")
    def refs(self, request: Request, kind: str, repo: str) -> Response:
        repository = self.readable(request, repo, kind)

        def named(prefix: str, short: bool = True) -> list[dict]:
            refs = [(ref, oid) for ref, oid in repository.refs.items() if ref.startswith(prefix)]
            return [{"name": ref[len(prefix) :], "ref": ref, "targetCommit": oid} for ref, oid in refs]

        listed = {"branches": named("refs/heads/"), "converts": [], "tags": named("refs/tags/")}
        return answer(listed | ({"pullRequests": named("refs/pr/")} if request.flag("include_prs") else {}))

    @route("GET", f"{API}/commits/(?P<revision>[^/]+)")
    def commits(self, request: Request, kind: str, repo: str, revision: str) -> Response:
        history = self.readable(request, repo, kind).history(revision)
        return answer(
            [
                {
                    "id": c.oid,
                    "title": c.title,
                    "message": c.description,
                    "date": c.date,
                    "authors": [{"user": c.author}],
                }
                for c in history
            ]
        )

    @route("POST", f"{API}/branch/(?P<branch>[^/]+)")
    def create_branch(self, request: Request, kind: str, repo: str, branch: str) -> Response:
        repository = self.writable(request, repo, kind)
        start = repository.resolve(request.json().get("startingPoint") or "main")
        repository.create_ref(f"refs/heads/{branch}", start.oid)
        return answer({})

    @route("DELETE", f"{API}/branch/(?P<branch>[^/]+)")
    def delete_branch(self, request: Request, kind: str, repo: str, branch: str) -> Response:
        self.writable(request, repo, kind).delete_ref(f"refs/heads/{branch}")
        return answer({})

    @route("POST", f"{API}/tag/(?P<revision>[^/]+)")
    def create_tag(self, request: Request, kind: str, repo: str, revision: str) -> Response:
        repository = self.writable(request, repo, kind)
        repository.create_ref(f"refs/tags/{request.json()['tag']}", repository.resolve(revision).oid)
        return answer({})

    @route("DELETE", f"{API}/tag/(?P<tag>[^/]+)")
    def delete_tag(self, request: Request, kind: str, repo: str, tag: str) -> Response:
        self.writable(request, repo, kind).delete_ref(f"refs/tags/{tag}")
        return answer({})

    @route("GET", f"{API}/discussions")
    def discussions(self, request: Request, kind: str, repo: str) -> Response:
        repository = self.readable(request, repo, kind)
        listed = [self.discussion(repository, pull) for pull in repository.pulls]
        return answer({"discussions": listed, "count": len(listed), "start": 0})

    @route("POST", f"{API}/discussions")
    def create_discussion(self, request: Request, kind: str, repo: str) -> Response:
        repository, payload = self.writable(request, repo, kind, pull_request=True), request.json()
        if not payload.get("pullRequest"):
            raise HubError(400, "The loopback Hub has pull requests only")
        head = repository.resolve("main").oid
        pull = repository.open_pull_request(payload["title"], request.user.name, head, "draft")
        return answer(self.discussion(repository, pull))

    @route("GET", f"{API}/discussions/(?P<num>\\d+)")
    def show_discussion(self, request: Request, kind: str, repo: str, num: str) -> Response:
        repository = self.readable(request, repo, kind)
        return answer(self.discussion(repository, repository.pull_request(int(num))))

    @route("POST", f"{API}/discussions/(?P<num>\\d+)/merge")
    def merge(self, request: Request, kind: str, repo: str, num: str) -> Response:
        repository = self.writable(request, repo, kind)
        repository.merge(int(num), request.user.name)
        return answer(self.discussion(repository, repository.pull_request(int(num))))

    @route("POST", f"{API}/discussions/(?P<num>\\d+)/status")
    def change_status(self, request: Request, kind: str, repo: str, num: str) -> Response:
        pull = self.writable(request, repo, kind).pull_request(int(num))
        pull.status = request.json()["status"]
        author = {"name": request.user.name}
        event = {"id": "status", "type": "status-change", "createdAt": pull.created, "author": author}
        return answer({"newStatus": event | {"data": {"status": pull.status}}})

    def discussion(self, repository: Repository, pull: PullRequest) -> dict:
        return {
            "num": pull.num,
            "title": pull.title,
            "author": {"name": pull.author},
            "createdAt": pull.created,
            "status": pull.status,
            "isPullRequest": True,
            "repo": {"name": repository.repo_id, "type": repository.kind.removesuffix("s")},
            "changes": {"base": MAIN, "mergeCommitId": pull.merge_commit},
            "filesWithConflicts": [],
            "events": [],
            "diff": "",
        }
