# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""vLLM's OpenAI-compatible server with this package's options: its command line, its environment, its start."""

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..extras import require
from ..inference.model_options import ModelOptions
from .vllm_plugin import EXTENSIONS

# A host that no address can have (RFC 2606): to vLLM, a list without hosts means all of them.
NO_HOST = "nobody.invalid"
_ADAPTER_FILE = "adapter_config.json"


def vllm_command(
    model: ModelOptions,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    names: Sequence[str] = (),
    adapters: Mapping[str, str] | None = None,
    tiles: bool = False,
    tensor_parallel: int = 1,
    allow_local_path: Path | None = None,
    allow_url: Sequence[str] = (),
    more: Sequence[str] = (),
) -> list[str]:
    """
    The command that starts vLLM's OpenAI-compatible server.

    Args:
        model: which checkpoint, in which dtype (`auto` is the checkpoint's, also where that is float32), at which
            resolution.
        host: address to listen on.
        port: port to listen on.
        names: what clients may call the model; by default its folder's or repository's name, and all of `pretrained`.
        adapters: folders or Hub ids of LoRA adapters, by the names that clients choose them by.
        tiles: images as an overview and tiles.
        tensor_parallel: GPUs, or on CPUs processes, that share the decoder's weights.
        allow_local_path: folder that `file://` addresses of images may lead into. By default, none is read.
        allow_url: `http://host/` or `https://host/` that images may be fetched from. By default, only data URLs are.
        more: options of vLLM's own, which come last and so win.

    Raises:
        OSError: if the checkpoint's configuration cannot be read, or an adapter's is damaged.
        ValueError: if the checkpoint is not FastVLM, the model is to be loaded in a way that vLLM has none for, or an
            address says more than a host.
    """
    config = _configuration(model)
    dtype = model.dtype if model.dtype != "auto" or config.dtype is None else str(config.dtype).removeprefix("torch.")
    known = list(names) or list(dict.fromkeys((Path(model.pretrained).name, model.pretrained)))
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model.pretrained]
    command += ["--served-model-name", *known, "--host", host, "--port", str(port), "--dtype", dtype]
    command += ["--tensor-parallel-size", str(tensor_parallel)]
    command += ["--tokenizer-mode", EXTENSIONS]
    # Templates of earlier checkpoints are not told from those that take text alone.
    command += ["--chat-template-content-format", "openai"]
    command += ["--allowed-media-domains", *([_host(address) for address in allow_url] or [NO_HOST])]
    if allow_local_path is not None:
        command += ["--allowed-local-media-path", str(allow_local_path)]
    processing: dict[str, Any] = {} if model.resolution is None else {"size": model.resolution}
    if tiles:
        processing["do_tile"] = True
    if processing:
        command += ["--mm-processor-kwargs", json.dumps(processing)]
    if adapters:
        command += ["--enable-lora", "--max-lora-rank", str(_rank_for(adapters.values()))]
        command += ["--lora-modules", *(f"{name}={folder}" for name, folder in adapters.items())]
    return [*command, *more]


def vllm_environment(api_key: str | None = None) -> dict[str, str]:
    """
    This process's environment variables, and those that the server takes.

    Args:
        api_key: what clients must send; not on the command line, which every user of the machine can read.
    """
    settings = {
        "VLLM_MEDIA_CONNECTOR": EXTENSIONS,
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    return {**settings, **os.environ, **({"VLLM_API_KEY": api_key} if api_key else {})}


def serve_with_vllm(model: ModelOptions, *, api_key: str | None = None, **options: Any) -> NoReturn:
    """
    Become vLLM's server: this process is replaced. `options` are those of [`vllm_command`].

    Raises:
        MissingLibraryError: if vLLM is not installed.
        OSError, ValueError: as [`vllm_command`] does; if the port is in use.
    """
    require(["vllm"], "vllm", "The engine vllm")
    command = vllm_command(model, **options)
    _require_free(options.get("host", "127.0.0.1"), options.get("port", 8000))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, vllm_environment(api_key))


def _configuration(model: ModelOptions) -> Any:
    """The checkpoint's configuration, once nothing is asked for that vLLM has not."""
    if model.adapter is not None:
        raise ValueError("vLLM serves adapters beside the model, by names of their own: give this one a name.")
    for name, value in (("quantization", model.quantization), ("compile", model.compiled)):
        if value:
            raise ValueError(f"--{name} is for the engine transformers; vLLM has options of its own.")
    if model.static_cache:
        raise ValueError("--static-cache is for the engine transformers; vLLM has a cache of its own.")
    from transformers import AutoConfig

    from ..configuration_fastvlm import FastVLMConfig

    config = AutoConfig.from_pretrained(model.pretrained)
    if not isinstance(config, FastVLMConfig):
        raise ValueError(
            f"{model.pretrained} is no FastVLM checkpoint that vLLM runs, but of type {config.model_type}."
        )
    return config


def _host(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{address!r} is no address that images can be fetched from, such as https://host/.")
    if parts.path.strip("/") or parts.port or parts.query:
        raise ValueError(f"vLLM allows whole hosts, not {address!r}: give {parts.scheme}://{parts.hostname}/.")
    return parts.hostname


def _rank_for(adapters: Any) -> int:
    """The least of vLLM's bounds on ranks that adapters in folders keep, at least its own default."""
    from ..checkpoint_files import read_json_object

    files = [Path(folder, _ADAPTER_FILE) for folder in adapters]
    settings = [read_json_object(path) for path in files if path.parent.is_dir()]
    largest = max([16, *(max([each.get("r", 0), *each.get("rank_pattern", {}).values()]) for each in settings)])
    for bound in (16, 32, 64, 128, 256, 320, 512):
        if largest <= bound:
            return bound
    raise ValueError(f"vLLM takes adapters of rank 512 at most, not {largest}.")


def _require_free(host: str, port: int) -> None:
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind, protocol) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
    except OSError as error:
        raise ValueError(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from error


__all__ = ["serve_with_vllm", "vllm_command", "vllm_environment"]
