"""vLLM's server as `fastvlm serve --engine vllm` starts it, on the CPU, and what is asked of it."""

import base64
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers_fastvlm.inference import ModelOptions
from transformers_fastvlm.serving.vllm_server import vllm_command, vllm_environment

# One thread for each process of the engine; 1 GiB for keys and values.
_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}
_SECONDS_TO_START = 400


@contextmanager
def vllm_server(
    log: Path, model: ModelOptions, environment: dict[str, str] | None = None, **options: Any
) -> Iterator[Any]:
    """An `openai` client of a server that runs until the end of the block; what the server prints is in `log`."""
    from openai import OpenAI

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = vllm_command(model, port=port, **options)
    variables = {**vllm_environment("secret"), **_CPU, **(environment or {})}
    variables.pop("OMP_NUM_THREADS", None)
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=log.parent
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/health", log)
        yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="secret", max_retries=0, timeout=300)
    finally:
        server.terminate()
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait(server: subprocess.Popen, address: str, log: Path) -> None:
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end:
        assert server.poll() is None, f"vLLM ended:\n{log.read_text()[-6000:]}"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"vLLM does not start:\n{log.read_text()[-6000:]}")


def as_request(messages: list[dict]) -> list[dict]:
    """Messages with image files, as the API takes them: with data URLs."""
    return [
        {**message, "content": [_part(part) for part in message["content"]]}
        if isinstance(message["content"], list)
        else message
        for message in messages
    ]


def _part(part: dict) -> dict:
    if part["type"] != "image":
        return part
    path = Path(part["image"])
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{data}"}}


def ask(client: Any, messages: list[dict], model: str, max_tokens: int = 12, **more: Any) -> str:
    """The answer of greedy decoding, without a character that the last token is only a part of."""
    answer = client.chat.completions.create(
        model=model, messages=as_request(messages), max_tokens=max_tokens, temperature=0, **more
    )
    return answer.choices[0].message.content.rstrip("\ufffd")
