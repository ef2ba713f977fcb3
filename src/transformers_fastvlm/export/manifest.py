# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`export.json`: what an exported folder was made of and with, and how long its graphs and weights are."""

import json
from pathlib import Path
from typing import Any

from ..checkpoint_files import read_json_object
from ..programs.files import write_text

MANIFEST_NAME = "export.json"
_TEXT = {".json", ".jinja", ".md", ".txt"}


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """
    Args:
        folder: with all of its files.
        facts: of the export, such as its target and precision.
    """
    files = {str(path.relative_to(folder).as_posix()): path.stat().st_size for path in _files(folder)}
    write_text(folder / MANIFEST_NAME, json.dumps(facts | {"files": files}, indent=2) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """
    Raises:
        OSError: if the folder has none, or a file is missing or has another length; it says which.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise OSError(f"{folder} is no export of `fastvlm export`: it has no {MANIFEST_NAME}.")
    manifest = read_json_object(path)
    for name, size in manifest.get("files", {}).items():
        file = folder / name
        if not file.is_file():
            raise OSError(f"The export in {folder} is not whole: {name} is missing.")
        if file.stat().st_size != size:
            raise OSError(f"The export in {folder} is not whole: {name} has {file.stat().st_size} bytes of {size}.")
    return manifest


def _files(folder: Path) -> list[Path]:
    """Those that nobody edits."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in _TEXT)
