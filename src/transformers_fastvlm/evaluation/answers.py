# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Answers kept on disk as they come, so that an interrupted evaluation goes on where it stopped."""

import glob
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

logger = logging.getLogger(__name__)

# What decides a checkpoint's answers, besides its weights.
_SETTINGS_FILES = (
    "adapter_config.json",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)


def fingerprint(source: str) -> str:
    """
    A digest of a checkpoint's or adapter's weights and settings, which says whether it is still the same one.

    Args:
        source: a folder, or the id of a Hub repository that has been loaded already.

    Raises:
        OSError: if there is neither.
    """
    folder = Path(source) if Path(source).is_dir() else _cached_folder(source)
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *(folder / name for name in _SETTINGS_FILES)]):
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:16]


def _cached_folder(repository: str) -> Path:
    for name in ("config.json", "adapter_config.json"):
        path = cached_file(repository, name, local_files_only=True, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            return Path(path).parent
    raise OSError(f"{repository} is neither a folder nor in the local cache of the Hub.")


def key_of(*parts: Any) -> str:
    """A short name for what an answer depends on; each part is anything that JSON can write."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def is_answer(record: Any, as_words: bool) -> bool:
    """
    Whether what was kept is an answer: `{"answer": ..., "unreadable": bool}`.

    Args:
        as_words: the answer is text; else a loss, a number, and whether greedy decoding would give it.
    """
    if not isinstance(record, dict) or not isinstance(record.get("unreadable"), bool):
        return False
    answer = record.get("answer")
    if as_words:
        return isinstance(answer, str)
    return (
        isinstance(answer, (list, tuple)) and len(answer) == 2 and is_number(answer[0]) and isinstance(answer[1], bool)
    )


def is_number(value: Any) -> bool:
    """Whether it is an integer or float, which `True` is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class AnswerStore:
    """
    Records by key, in JSONL files of which every process appends to its own; kept in memory alone without a path.

    Lines that are no records, such as one that a kill cut short, are left out.

    Args:
        path: the file of the first process; the others' are named after it.
        rank: this process.
    """

    def __init__(self, path: Path | None = None, rank: int = 0):
        self.path = None if path is None else path if rank == 0 else path.with_suffix(f".{rank}{path.suffix}")
        self._records: dict[str, Any] = {}
        if path is not None:
            for file in sorted([path, *path.parent.glob(f"{glob.escape(path.stem)}.*{glob.escape(path.suffix)}")]):
                self._records.update(_read(file) if file.is_file() else ())

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __getitem__(self, key: str) -> Any:
        return self._records[key]

    def get(self, key: str) -> Any:
        """The record, `None` if there is none."""
        return self._records.get(key)

    def add(self, records: dict[str, Any]) -> None:
        """Keep records, on disk before this returns."""
        self._records |= records
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            if file.tell() and not _ends_with_newline(self.path):
                file.write("\n")
            for key, value in records.items():
                file.write(json.dumps({"key": key, "value": value}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _read(path: Path) -> Iterable[tuple[str, Any]]:
    broken = 0
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and isinstance(record.get("key"), str) and "value" in record:
            yield record["key"], record["value"]
        else:
            broken += bool(line)
    if broken:
        logger.warning("%s: %d lines cannot be read; their answers are asked for again.", path, broken)
