# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Starting a server: what it needs, the port, the model, and its end on a signal."""

import logging
import socket

from ..extras import require
from .configuration import ServingConfig


def serve(config: ServingConfig) -> None:
    """
    Serve until a signal: SIGTERM and SIGINT let running answers finish, a second one ends them.

    Raises:
        MissingLibraryError: if the libraries of the extra `serve` are not installed.
        ImportError, OSError, ValueError: if the port is in use, or the model cannot be loaded.
    """
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
