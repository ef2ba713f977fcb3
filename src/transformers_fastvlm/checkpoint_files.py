# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The files of a checkpoint, in a folder or on the Hub: found, and read only as far as their JSON and headers."""

import json
import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


def hub_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `from_pretrained`'s arguments that say where a checkpoint is found."""
    return {name: arguments[name] for name in HUB_ARGUMENTS if arguments.get(name) is not None}


def hub_file(source: str | os.PathLike, name: str, arguments: Mapping[str, Any] | None = None) -> str | None:
    """Local path of a file of a folder or Hub repository, `None` if there is no such file."""
    return cached_file(
        source,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        **hub_arguments(arguments or {}),
    )


def weight_files(source: str | os.PathLike, arguments: Mapping[str, Any] | None = None) -> list[str]:
    """Safetensors files of a checkpoint, in the order of its index; empty if it has none.

    Raises:
        FileNotFoundError: if the index lists a file that is not there.
        ValueError: if the index is damaged, or lists files outside of the checkpoint.
    """
    arguments = arguments or {}
    variant = f".{arguments['variant']}" if arguments.get("variant") else ""
    single = hub_file(source, SAFE_WEIGHTS_NAME.replace(".safetensors", f"{variant}.safetensors"), arguments)
    if single is not None:
        return [single]
    index = hub_file(source, SAFE_WEIGHTS_INDEX_NAME.replace(".index.json", f"{variant}.index.json"), arguments)
    if index is None:
        return []
    files = []
    for name in dict.fromkeys(_weight_map(index).values()):
        path = hub_file(source, name, arguments)
        if path is None:
            raise FileNotFoundError(f"{source} lacks {name}, which its {os.path.basename(index)} lists.")
        files.append(path)
    return files


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
    """
    The object in a JSON file.

    Raises:
        ValueError: if it is damaged, or holds something else; the message names it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:  # text that is no UTF-8 is a ValueError, too
        raise ValueError(f"{path} is damaged: it is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it should hold a JSON object, not a {type(content).__name__}.")
    return content


def _weight_map(index: str | os.PathLike) -> dict[str, str]:
    """File of each tensor, as an index of shards has it. A file of a stranger's that leads elsewhere is refused."""
    content = read_json_object(index)
    weight_map = content.get("weight_map")
    if not isinstance(content.get("metadata"), dict):  # transformers reads it
        raise ValueError(f"{index} is damaged: it lacks `metadata`, an object.")
    names_files = isinstance(weight_map, dict) and all(isinstance(name, str) for name in weight_map.values())
    if not weight_map or not names_files:
        raise ValueError(f"{index} is damaged: its `weight_map` should name the file of each tensor.")
    for name in weight_map.values():
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in name or path.suffix != ".safetensors":
            raise ValueError(f"{index} lists {name!r}, which is no safetensors file of this checkpoint.")
    return weight_map


def tensor_headers(path: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """`dtype`, `shape` and `data_offsets` of the tensors in a safetensors file, by name, from its header alone.

    Raises:
        ValueError: if the file is no safetensors file, or ends before its header or one of its tensors; the message
            names both.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if size < 8 or header_size > size - 8:
            raise ValueError(f"{path} is truncated: it has {size} bytes and ends within its header.")
        try:
            header = json.loads(file.read(header_size))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no safetensors file: its header is damaged.") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path} is no safetensors file: its header is a {type(header).__name__}.")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if not _is_tensor_entry(entry):
            raise ValueError(f"{path} is damaged: its header has no place, shape and dtype for tensor {name!r}.")
        if 8 + header_size + entry["data_offsets"][1] > size:
            raise ValueError(f"{path} is truncated: it has {size} bytes and ends before the whole of tensor {name!r}.")
    try:
        with safe_open(path, framework="pt"):  # what is left: gaps, overlaps, shapes that do not fit, odd dtypes
            return header
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def _is_tensor_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    offsets, shape = entry.get("data_offsets"), entry.get("shape")
    if not isinstance(offsets, list) or not isinstance(shape, list) or len(offsets) != 2:
        return False
    return all(type(number) is int and number >= 0 for number in (*offsets, *shape)) and offsets[0] <= offsets[1]
