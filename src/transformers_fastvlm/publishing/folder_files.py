# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The files of a repository folder: their paths, digests and JSON."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub.utils.sha import git_hash, sha_fileobj

from .errors import PublishError


def files_in(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its path in the repository, in order."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha_fileobj(file).hex()


def has_id(path: Path, identifier: str) -> bool:
    """Whether a file is the one that the Hub knows by this SHA-256, or by this git blob id."""
    return identifier == (sha256(path) if len(identifier) == 64 else git_hash(path.read_bytes()))


def read_text(path: Path) -> str:
    """
    Raises:
        PublishError: if a file cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PublishError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise PublishError(f"{path} is no text in UTF-8.") from error


def read_object(path: Path) -> dict[str, Any]:
    """
    Raises:
        PublishError: if a file has no JSON object in it.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise PublishError(f"{path} is no JSON file: {error}") from error
    if not isinstance(content, dict):
        raise PublishError(f"{path} has no JSON object in it.")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
