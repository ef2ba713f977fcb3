# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A server in a process of its own, as users start it, on a free port of this machine."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from running_scripts import ENVIRONMENT

BUNDLED = Path(__file__).parents[2] / "checkpoints" / "tiny-reader"
START_SECONDS = 120


class RunningServer:
    """`fastvlm serve` with options, until the end of a `with` block."""

    def __init__(self, *options: object, **environment: str):
        command = [sys.executable, "-m", "transformers_fastvlm", "serve", "--port", "0", *map(str, options)]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, **environment}, start_new_session=True
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._address: str | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http://\S+/v1", line):
                self._address = found[0]
                self._ready.set()
        self._ready.set()

    @property
    def address(self) -> str:
        """Of its API; waits for it."""
        assert self._ready.wait(START_SECONDS)
        assert self._address is not None, "".join(self.lines)[-3000:]
        return self._address

    @property
    def root(self) -> str:
        return self.address.removesuffix("/v1")

    def metric(self, name: str) -> float:
        """One without labels, or the sum over them."""
        text = httpx.get(f"{self.root}/metrics").text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    def terminate(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)

    def __enter__(self) -> "RunningServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()
