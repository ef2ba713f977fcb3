# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""OpenAI-compatible servers of one checkpoint: ours, as loaded, optimized and with vLLM, and transformers' own."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers_fastvlm.inference import ModelOptions
from transformers_fastvlm.serving.vllm_server import vllm_command, vllm_environment

SECONDS_TO_START = 600
# What it encodes to learn how much memory that takes, takes more than 20 GiB without these.
_VLLM_OPTIONS = ["--max-model-len", "2048", "--max-num-batched-tokens", "2048", "--skip-mm-profiling"]
# transformers' server looks classes up where packages of others have none.
_TRANSFORMERS = """
import sys
import transformers
import transformers_fastvlm
from transformers.cli.serving import model_manager
from transformers.cli.transformers import main
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NAMES

transformers.FastVLMForConditionalGeneration = transformers_fastvlm.FastVLMForConditionalGeneration
NAMES["fastvlm"] = "FastVLMForConditionalGeneration"
sys.argv[0] = "transformers"
main()
"""


@dataclass(frozen=True)
class ServerSubject:
    """
    Args:
        name: in tables.
        command: that serves a checkpoint, from its folder, its dtype, a port and the most answers at a time.
        environment: variables that it needs besides.
    """

    name: str
    command: Callable[[Path, str, int, int], list[str]]
    environment: Callable[[], dict[str, str]] = dict


def _ours(*more: str) -> Callable[[Path, str, int, int], list[str]]:
    def command(checkpoint: Path, dtype: str, port: int, at_a_time: int) -> list[str]:
        options = ["--model", str(checkpoint), "--dtype", dtype, "--port", str(port), "--batch-size", str(at_a_time)]
        return [sys.executable, "-m", "transformers_fastvlm", "serve", *options, *more]

    return command


def _transformers(checkpoint: Path, dtype: str, port: int, at_a_time: int) -> list[str]:
    options = [str(checkpoint), "--dtype", dtype, "--port", str(port), "--host", "127.0.0.1"]
    return [sys.executable, "-c", _TRANSFORMERS, "serve", *options]


def vllm_subject(python: Path) -> ServerSubject:
    """vLLM with this package, in the environment of that interpreter."""

    def command(checkpoint: Path, dtype: str, port: int, at_a_time: int) -> list[str]:
        more = [*_VLLM_OPTIONS, "--max-num-seqs", str(at_a_time)]
        return [str(python), *vllm_command(ModelOptions(str(checkpoint), dtype=dtype), port=port, more=more)[1:]]

    return ServerSubject("vllm", command, lambda: {**vllm_environment(), "VLLM_CPU_KVCACHE_SPACE": "2"})


SERVER_PEERS = {
    each.name: each
    for each in (
        ServerSubject("transformers", _transformers),
        ServerSubject("ours", _ours()),
        ServerSubject("ours-optimized", _ours("--optimize")),
    )
}


@contextmanager
def running(subject: ServerSubject, checkpoint: Path, dtype: str, at_a_time: int, log: Path) -> Iterator[str]:
    """
    The address of a server that runs until the end of the block.

    Raises:
        RuntimeError: if it ends, or is not ready in time; what it printed is in `log`.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = subject.command(checkpoint, dtype, port, at_a_time)
    with log.open("w") as output:
        environment = {**os.environ, **subject.environment()}
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(server, subject.name, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(server: subprocess.Popen, name: str, address: str, log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"The server {name} does not start:\n{log.read_text(errors='replace')[-3000:]}")
