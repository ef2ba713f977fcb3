# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Where the loopback Hub keeps contents: files named by their sha256, and hf_xet's own local store."""

import hashlib
import secrets
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

BLOCK = 1 << 20
SHARD_ENTRY = 48  # each header and entry of a shard's file section
SHARD_END = b"\xff" * 32
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30


class ShardFile(NamedTuple):
    sha256: str
    xet_hash: str
    size: int


def sha256_of(content: BinaryIO) -> str:
    digest = hashlib.sha256()
    content.seek(0)
    while block := content.read(BLOCK):
        digest.update(block)
    content.seek(0)
    return digest.hexdigest()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


class XetStore:
    """The folder that hf_xet uses as its server where `casUrl` is `local://folder`.

    hf_xet locks it for as long as one of its uploads or downloads lives, so one process at a time transfers.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.url = f"local://{self.folder}"

    def find(self, sha256: str) -> ShardFile | None:
        """An uploaded file; the shard that ends its upload has both of its hashes."""
        shards = sorted(self.folder.rglob("shards/*.mdb"))
        return next((file for path in shards for file in shard_files(path) if file.sha256 == sha256), None)

    def read(self, file: ShardFile) -> bytes:
        from hf_xet import XetFileInfo, XetSession

        group = XetSession().new_download_stream_group(endpoint=self.url)
        content = b"".join(group.download_stream(XetFileInfo(file.xet_hash, file.size)))
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ValueError(f"The Xet store holds other bytes than its shard says for {file.sha256}.")
        return content


def shard_files(path: Path) -> Iterator[ShardFile]:
    """The files of a shard that say their sha256: https://huggingface.co/docs/xet/shard."""
    data = path.read_bytes()
    at = SHARD_ENTRY
    while at + SHARD_ENTRY <= len(data) and data[at : at + 32] != SHARD_END:
        xet_hash = merkle_hex(data[at : at + 32])
        flags, entries = struct.unpack_from("<II", data, at + 32)
        first = at + SHARD_ENTRY
        size = sum(struct.unpack_from("<I", data, first + SHARD_ENTRY * entry + 36)[0] for entry in range(entries))
        at = first + SHARD_ENTRY * entries * (2 if flags & WITH_VERIFICATION else 1)
        if flags & WITH_METADATA:
            yield ShardFile(merkle_hex(data[at : at + 32]), xet_hash, size)
            at += SHARD_ENTRY


def merkle_hex(digest: bytes) -> str:
    """A hash as Xet writes it: four little-endian words."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))


class BlobStore:
    """Contents by sha256, in files of their own or in the Xet store."""

    def __init__(self, folder: Path, xet: bool) -> None:
        self.folder = folder / "objects"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.xet = XetStore(folder / "cas") if xet else None

    def add(self, content: BinaryIO) -> str:
        sha256 = sha256_of(content)
        staged = self.folder / f"{sha256}.{secrets.token_hex(4)}"
        with staged.open("wb") as file:
            shutil.copyfileobj(content, file, BLOCK)
        staged.replace(self.folder / sha256)
        return sha256

    def size(self, sha256: str) -> int | None:
        path = self.folder / sha256
        if path.is_file():
            return path.stat().st_size
        uploaded = self.find_xet(sha256)
        return uploaded.size if uploaded is not None else None

    def find_xet(self, sha256: str) -> ShardFile | None:
        return self.xet.find(sha256) if self.xet is not None else None

    def read(self, sha256: str) -> bytes:
        path = self.folder / sha256
        if path.is_file():
            return path.read_bytes()
        uploaded = self.find_xet(sha256)
        if self.xet is None or uploaded is None:
            raise FileNotFoundError(sha256)
        return self.xet.read(uploaded)
