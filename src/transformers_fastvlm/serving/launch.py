# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Starting a server: what it needs, the port, the model, and its end on a signal."""

import json
import logging
import socket
from typing import NoReturn

from ..extras import require
from .configuration import ServingConfig


def serve(config: ServingConfig) -> None:
    """
    Serve until a signal: SIGTERM and SIGINT let running answers finish, a second one ends them. With the engine vllm,
    this process becomes vLLM's server.

    Raises:
        MissingLibraryError: if the libraries of the extra `serve`, or vLLM, are not installed.
        ImportError, OSError, ValueError: if the port is in use, or the model cannot be loaded.
    """
    if config.engine == "vllm":
        _become_vllm(config)
    require(["starlette", "uvicorn", "pydantic", "prometheus_client"], "serve", "The server")
    listener = _listen(config.host, config.port)
    with listener:
        from .server import AnswerServer
        from .service import Service

        logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
        for name in ("httpx", "httpx2", "httpcore", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        service = Service.load(config)
        try:
            AnswerServer(service, listener).run()
        finally:
            service.close()


def _become_vllm(config: ServingConfig) -> NoReturn:
    from .vllm_server import serve_with_vllm

    serve_with_vllm(
        config.model,
        api_key=config.api_key,
        host=config.host,
        port=config.port,
        names=config.model_names,
        adapters=config.adapters_by_name,
        tensor_parallel=config.tensor_parallel,
        allow_local_path=config.allow_local_paths[0] if config.allow_local_paths else None,
        allow_url=config.allow_urls,
        more=[
            *("--max-num-seqs", str(config.batch_size)),
            *("--limit-mm-per-prompt", json.dumps({"image": config.max_images})),
        ],
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket that has the port, before anything is loaded in vain."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise OSError(f"The server cannot listen at {host} port {port}: {error.strerror or error}.") from error
    return listener
