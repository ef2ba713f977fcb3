# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A thousand requests of 32 clients, some slow, gone or wrong: all good ones are right, and nothing is left behind."""

import base64
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

pytest.importorskip("uvicorn", reason="the server needs the `serve` extra")
pytest.importorskip("prometheus_client", reason="the server needs the `serve` extra")

from serving.running_server import BUNDLED, RunningServer
from transformers_fastvlm.image_reading import read_image
from transformers_fastvlm.inference import ModelOptions, RunOptions, load_answerer

CLIENTS, REQUESTS = 32, 1000
TRUTH = json.loads((BUNDLED / "images" / "truth.json").read_text())


def body(row: dict, **options) -> dict:
    content = base64.b64encode((BUNDLED / "images" / row["image"]).read_bytes()).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}}
    messages = [{"role": "user", "content": [image, {"type": "text", "text": row["question"]}]}]
    return {"model": "tiny-reader", "messages": messages, **options}


def by_generate() -> list[str]:
    answerer = load_answerer(ModelOptions(str(BUNDLED)), RunOptions("cpu"))

    def answer(row):
        image = {"type": "image", "image": read_image(BUNDLED / "images" / row["image"])}
        return answerer.answer([{"role": "user", "content": [image, {"type": "text", "text": row["question"]}]}]).text

    return [answer(row) for row in TRUTH]


class Client:
    """What one client does: mostly asks and reads, in one of the ways that clients have."""

    def __init__(self, address: str, expected: list[str]):
        self._address = f"{address}/chat/completions"
        self._expected = expected
        self.first_tokens: list[float] = []

    def __call__(self, number: int) -> None:
        draw = random.Random(number)
        index, way = draw.randrange(len(TRUTH)), draw.random()
        if way < 0.05:
            wrong = draw.choice([{"n": 2}, {"messages": []}, {"temperature": "hot"}, {"model": "other"}])
            assert httpx.post(self._address, json=body(TRUTH[index], **wrong), timeout=120).status_code in (400, 404)
        elif way < 0.5:
            answer = httpx.post(self._address, json=body(TRUTH[index]), timeout=120)
            assert answer.json()["choices"][0]["message"]["content"] == self._expected[index]
        else:
            self._stream(index, slow=way > 0.9, leaves=way < 0.55)

    def _stream(self, index: int, slow: bool, leaves: bool) -> None:
        start, text = time.perf_counter(), ""
        with httpx.stream("POST", self._address, json=body(TRUTH[index], stream=True), timeout=120) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    piece = json.loads(line[6:])["choices"][0]["delta"].get("content", "")
                    if piece and not text:
                        self.first_tokens.append(time.perf_counter() - start)
                    text += piece
                if slow:
                    time.sleep(0.1)
                if leaves and text:
                    return
        assert text == self._expected[index]


def resident_memory(process: int) -> float:
    """In MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_thousand_requests():
    expected = by_generate()
    with RunningServer("--model", BUNDLED) as server:
        client = Client(server.address, expected)
        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(client, range(REQUESTS // 10)))
            after_a_tenth = resident_memory(server.process.pid)
            start = time.perf_counter()
            list(threads.map(client, range(REQUESTS // 10, REQUESTS)))
            seconds = time.perf_counter() - start
        at_the_end = resident_memory(server.process.pid)
        first = sorted(client.first_tokens)
        print(
            f"{0.9 * REQUESTS / seconds:.1f} requests/s; to first token p50 {first[len(first) // 2]:.2f} s, "
            f"p95 {first[len(first) * 95 // 100]:.2f} s; {after_a_tenth:.0f} MiB, then {at_the_end:.0f} MiB"
        )
        assert server.metric("fastvlm_requests_running") == server.metric("fastvlm_requests_waiting") == 0
        assert at_the_end < after_a_tenth * 1.1
        assert not any("Traceback" in line for line in server.lines)
