# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The server's process: listens, and on a signal lets running answers finish while new requests get status 503."""

import logging
import signal
import socket
import time
from types import FrameType

import uvicorn

from .app import build_app
from .service import Service

logger = logging.getLogger(__name__)


class AnswerServer(uvicorn.Server):
    """
    Args:
        service: what is served.
        listener: the socket, bound.
    """

    def __init__(self, service: Service, listener: socket.socket):
        self._service, self._listener = service, listener
        self._gate = build_app(service)
        self._stop_at: float | None = None
        super().__init__(
            uvicorn.Config(
                self._gate,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Until a signal ends it."""
        super().run(sockets or [self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self._listener.getsockname()[:2]
        logger.info(
            "Serving %s at http://%s:%d/v1", ", ".join(self._service.names), f"[{host}]" if ":" in host else host, port
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops taking requests, the second ends what is running."""
        if self._stop_at is None:
            self._service.is_stopping = True
            self._stop_at = time.monotonic() + self._service.config.stop_timeout
        else:
            self._stop_at = time.monotonic()
            self.force_exit = sig == signal.SIGINT

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._stop_at is not None:
            if self._gate.in_flight and time.monotonic() < self._stop_at:
                await super().on_tick(counter)
                return False
            self._service.close()
            self.should_exit = True
        return await super().on_tick(counter)
