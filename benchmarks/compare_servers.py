# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Requests a second, time to first token and tokens a second of servers, with several clients at a time.

    python benchmarks/compare_servers.py --clients 1,8,32 --vllm .venv-vllm/bin/python

Every request has a picture of its own, so that nothing is answered from a cache. Needs the extra `serve`.
"""

import base64
import io
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, quantiles
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from command_lines import JsonOption, named, run_script, script_command_line
from peer_servers import SERVER_PEERS, ServerSubject, running, vllm_subject
from transformers_fastvlm import AutoModelForVision2Seq, FastVLMProcessor
from transformers_fastvlm.benchmark.configurations import require_known
from transformers_fastvlm.benchmark.machine import LIBRARIES, describe_machine
from transformers_fastvlm.benchmark.records import make_record, write_record
from transformers_fastvlm.benchmark.report import print_record
from transformers_fastvlm.benchmark.synthetic import random_model
from transformers_fastvlm.benchmark.vlm_subjects import DECODERS, our_config
from transformers_fastvlm.inference.model_options import bundled_checkpoint
from transformers_fastvlm.programs.commands import console, integers_in, prepare_outputs
from transformers_fastvlm.programs.tables import markdown_table

QUESTION = "Describe the image in one sentence."


@dataclass(frozen=True)
class Load:
    """
    Args:
        clients: that ask at the same time, each again as soon as it is answered.
        requests: of all of them.
        new_tokens: of an answer.
    """

    clients: int
    requests: int
    new_tokens: int


@dataclass(frozen=True)
class Asked:
    """One answer: seconds from the request to its first text and to its end, and its tokens; or the error."""

    first: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    error: str | None = None


@dataclass(frozen=True)
class ServerPoint:
    """
    Args:
        name: of the server.
        load: on it.
        seconds: from the first request to the last answer.
        answers: every one.
    """

    name: str
    load: Load
    seconds: float
    answers: tuple[Asked, ...]


def write_random_checkpoint(folder: Path, decoder: str, dtype: str, resolution: int) -> None:
    """A checkpoint of a released size with random weights, whose every token has a text."""
    processor = FastVLMProcessor.from_pretrained(bundled_checkpoint(), size=resolution)
    config = our_config(decoder)
    tokenizer = processor.tokenizer
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    parts["model"]["vocab"] |= {f"Ġw{index}": index for index in range(len(tokenizer), config.text_config.vocab_size)}
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(parts))
    tokenizer.model_max_length = config.text_config.max_position_embeddings
    config.image_token_id = processor.image_token_id
    config.vision_config.image_size = resolution
    model = random_model(config, getattr(torch, dtype), AutoModelForVision2Seq)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def picture(seed: int, side: int) -> str:
    """A data URL of noise, other noise for another seed."""
    pixels = np.random.RandomState(seed).randint(0, 256, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(file, "jpeg", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def ask(client: Any, model: str, image: str, new_tokens: int) -> Asked:
    """One request, streamed."""
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": QUESTION}]
    start, first, tokens = time.perf_counter(), None, 0
    try:
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": content}],
            max_tokens=new_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            if first is None and chunk.choices and chunk.choices[0].delta.content:
                first = time.perf_counter() - start
            if chunk.usage is not None:
                tokens = chunk.usage.completion_tokens
    except Exception as error:
        return Asked(error=f"{type(error).__name__}: {error}"[:200])
    if first is None:
        return Asked(error="no text")
    return Asked(first, time.perf_counter() - start, tokens)


def measure(name: str, address: str, model: str, load: Load, resolution: int, seed: int) -> ServerPoint:
    """Have all clients of a load ask."""
    from openai import OpenAI

    images = [picture(seed + index, resolution) for index in range(load.requests)]
    with OpenAI(base_url=address, api_key="none", max_retries=0, timeout=3600) as client:
        start = time.perf_counter()
        with ThreadPoolExecutor(load.clients) as pool:
            answers = list(pool.map(lambda image: ask(client, model, image, load.new_tokens), images))
        return ServerPoint(name, load, time.perf_counter() - start, tuple(answers))


def measure_servers(
    subjects: Sequence[ServerSubject], loads: Sequence[Load], checkpoint: Path, dtype: str, resolution: int
) -> tuple[list[ServerPoint], dict[str, str]]:
    """
    Start each server in turn, ask it once to warm it, and then with every load.

    Returns:
        what was measured, and by the names of servers that did not start, why.
    """
    points, failures = [], {}
    for subject in subjects:
        with tempfile.TemporaryDirectory() as folder:
            at_a_time = max(load.clients for load in loads)
            try:
                with running(subject, checkpoint, dtype, at_a_time, Path(folder) / "log") as address:
                    measure(subject.name, address, str(checkpoint), Load(1, 1, 4), resolution, 10_000)
                    for seed, load in enumerate(loads):
                        points.append(measure(subject.name, address, str(checkpoint), load, resolution, 1000 * seed))
            except RuntimeError as error:  # what the others took minutes for is kept
                failures[subject.name] = str(error)
    return points, failures


def servers_report(record: dict[str, Any]) -> tuple[Table, list[str]]:
    """One row per server and number of clients."""
    headings = ("requests/s", "first token, median", "95 %", "tokens/s", "failed")
    table = markdown_table(("server", "clients"), headings)
    results = record["results"]
    for point in results["points"]:
        good = [answer for answer in point["answers"] if answer["error"] is None]
        row = [point["name"], str(point["load"]["clients"])]
        if good:
            firsts = [answer["first"] for answer in good]
            cuts = quantiles(firsts, n=20, method="inclusive") if len(firsts) > 1 else firsts * 19
            tokens = sum(answer["tokens"] for answer in good)
            row += [f"{len(good) / point['seconds']:.2f}", f"{cuts[9]:.2f} s", f"{cuts[18]:.2f} s"]
            row.append(f"{tokens / point['seconds']:.1f}")
        else:
            row += ["–"] * 4
        table.add_row(*row, str(len(point["answers"]) - len(good)))
    tokens = mean([point["load"]["new_tokens"] for point in results["points"]] or [0])
    lines = [
        f"{results['checkpoint']}, {results['dtype']}, one image of {results['resolution']}² and {tokens:.0f} tokens "
        "an answer, streamed. Clients ask again as soon as they are answered; tokens/s are those of all together."
    ]
    errors = {each["error"] for point in results["points"] for each in point["answers"] if each["error"]}
    lines += [f"Failed: {error}" for error in sorted(errors)]
    return table, lines


def main(
    servers: Annotated[str, typer.Option(help=f"Of {', '.join(SERVER_PEERS)}.")] = ",".join(SERVER_PEERS),
    vllm: Annotated[Path | None, typer.Option(help="Python of an environment with vLLM: measures that, too.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder. [default: random weights of --decoder]")] = None,
    decoder: Annotated[str, typer.Option(help=f"Of {', '.join(DECODERS)}.")] = "0.5B",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    resolution: Annotated[int, typer.Option(min=64, help="Side of the images, pixels.")] = 512,
    clients: Annotated[str, typer.Option(help="How many ask at a time, one measurement each.")] = "1,8,32",
    requests: Annotated[int, typer.Option(min=1, help="Of a measurement, at least; every client has one.")] = 8,
    new_tokens: Annotated[int, typer.Option(min=2, help="Of an answer.")] = 16,
    json_path: JsonOption = None,
) -> None:
    """Measure servers with several clients at a time."""
    prepare_outputs(json_path)
    require_known("decoder", [decoder], DECODERS)
    subjects = [*named(servers, SERVER_PEERS), *([vllm_subject(vllm)] if vllm else [])]
    loads = [Load(count, max(requests, count), new_tokens) for count in integers_in(clients)]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = model or Path(folder)
        if model is None:
            write_random_checkpoint(checkpoint, decoder, dtype, resolution)
        with Console(stderr=True).status("measuring"):
            points, failures = measure_servers(subjects, loads, checkpoint, dtype, resolution)
    results = {
        "checkpoint": str(model) if model else f"FastVLM-{decoder} with random weights",
        "dtype": dtype,
        "resolution": resolution,
        "points": [asdict(point) for point in points],
    }
    machine = describe_machine(torch.device("cpu"), (*LIBRARIES, "uvicorn", "openai"))
    record = make_record("servers", script_command_line(), machine, results)
    print_record(record, servers_report, console())
    if json_path is not None:
        write_record(record, json_path)
    if failures:
        raise RuntimeError("\n".join(failures.values()))


if __name__ == "__main__":
    run_script(main)
