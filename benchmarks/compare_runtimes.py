# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
What exports cost, and time to first token and tokens a second of each runtime, one after the other.

    python benchmarks/compare_runtimes.py --threads 2 --resolutions 512,1024

Every export and every measurement has a process of its own. Needs the extras `export` and `inference`.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from command_lines import JsonOption, run_script, script_command_line
from compare_servers import write_random_checkpoint
from transformers_fastvlm.benchmark.configurations import require_known
from transformers_fastvlm.benchmark.machine import LIBRARIES, describe_machine
from transformers_fastvlm.benchmark.records import make_record, write_record
from transformers_fastvlm.benchmark.report import print_record
from transformers_fastvlm.benchmark.synthetic import random_pixels
from transformers_fastvlm.benchmark.timing import OwnProcess, thread_count
from transformers_fastvlm.benchmark.vlm_subjects import DECODERS, random_prompts
from transformers_fastvlm.export import load_onnx, load_openvino
from transformers_fastvlm.export.configuration import PRECISIONS
from transformers_fastvlm.inference import load_model, optimize_for_inference
from transformers_fastvlm.programs.commands import console, integers_in, names_in, prepare_outputs
from transformers_fastvlm.programs.tables import markdown_table

# PyTorch as it loads and optimized, and each export at each of its precisions.
PYTORCH = ("pytorch", "optimized")
WAYS = (*PYTORCH, *(f"{target}-{precision}" for target, precisions in PRECISIONS.items() for precision in precisions))
TEXT_TOKENS = 32
LOADERS = {"onnx": load_onnx, "openvino": load_openvino}


@dataclass(frozen=True)
class Export:
    """
    Args:
        seconds: of the command, start and verification included.
        peak_memory: bytes of its process, libraries and mapped files included.
        size: bytes on disk.
    """

    seconds: float
    peak_memory: int
    size: int


@dataclass(frozen=True)
class Point:
    """
    Args:
        way: one of `WAYS`.
        resolution: side of the image in pixels.
        first_tokens: seconds from pixels to the first token, of each run.
        tokens: seconds per token after it, of each run.
    """

    way: str
    resolution: int
    first_tokens: list[float]
    tokens: list[float]


class Runner:
    """A model in one of the ways, to be measured in a process of its own."""

    def __init__(self, way: str, folder: Path, threads: int):
        torch.set_num_threads(threads)
        if way in PYTORCH:
            self.model = load_model(folder, dtype=torch.float32)
            if way == "optimized":
                optimize_for_inference(self.model, cache_dir=folder.parent / "encoders")
        else:
            self.model = LOADERS[way.partition("-")[0]](folder, threads=threads)

    @torch.no_grad()
    def measure(self, resolution: int, new_tokens: int, repetitions: int) -> tuple[list[float], list[float]]:
        """Seconds to the first token, and per token after it, of each repetition but the first."""
        pixels = {"pixel_values": random_pixels(1, resolution, torch.float32, torch.device("cpu"))}
        prompt = random_prompts(self.model, pixels, 1, TEXT_TOKENS)
        inputs = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), **pixels}
        first, rest = [], []
        for _ in range(repetitions + 1):
            one = self._seconds(inputs, 1)
            first.append(one)
            rest.append((self._seconds(inputs, new_tokens) - one) / (new_tokens - 1))
        return first[1:], rest[1:]

    def _seconds(self, inputs: dict[str, torch.Tensor], count: int) -> float:
        start = time.perf_counter()
        self.model.generate(**inputs, min_new_tokens=count, max_new_tokens=count, do_sample=False)
        return time.perf_counter() - start


def export_as(way: str, checkpoint: Path, folder: Path) -> Export:
    """
    Raises:
        RuntimeError: if the command fails; it says what the command said.
    """
    target, _, precision = way.partition("-")
    command = [sys.executable, "-m", "transformers_fastvlm", "export", str(checkpoint), "--to", target]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*command, "--precision", precision, "--output", str(folder)], stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            said.seek(0)
            raise RuntimeError(f"{way}: {said.read().decode(errors='replace')[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Export(time.perf_counter() - start, usage.ru_maxrss * unit, size)


def runtimes_report(record: dict[str, Any]) -> tuple[Table, list[str]]:
    """One row per way: what its export took, and its times at each resolution."""
    results = record["results"]
    sizes = list(dict.fromkeys(point["resolution"] for point in results["points"]))
    speeds = [heading for size in sizes for heading in (f"first token, {size}²", f"tokens/s, {size}²")]
    table = markdown_table(("runtime",), ("export", "peak memory", "on disk", *speeds))
    for way in dict.fromkeys(point["way"] for point in results["points"]):
        made = results["exports"].get(way)
        cells = ["–", "–", "–"]
        if made:
            cells = [f"{made['seconds']:.0f} s", f"{made['peak_memory'] / 1e9:.1f} GB", f"{made['size'] / 1e9:.2f} GB"]
        for point in (point for point in results["points"] if point["way"] == way):
            cells += [f"{median(point['first_tokens']):.2f} s", f"{1 / median(point['tokens']):.1f}"]
        table.add_row(way, *cells)
    lines = [
        f"{results['checkpoint']}, float32 activations but where a precision says otherwise; medians of "
        f"{results['repetitions']} runs, from pixels on. Peak memory is of the whole process, in which the model's "
        "weights take 3.0 GB in float32."
    ]
    return table, lines


def main(
    ways: Annotated[str, typer.Option(help=f"Of {', '.join(WAYS)}.")] = ",".join(WAYS),
    model: Annotated[Path | None, typer.Option(help="Folder. [default: random weights of --decoder]")] = None,
    decoder: Annotated[str, typer.Option(help=f"Of {', '.join(DECODERS)}.")] = "0.5B",
    resolutions: Annotated[str, typer.Option(help="Sides of the images, pixels.")] = "512,1024",
    new_tokens: Annotated[int, typer.Option(min=2, help="Of an answer.")] = 17,
    repetitions: Annotated[int, typer.Option(min=1, help="Of a measurement, beside one that warms up.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Of each runtime.")] = 2,
    json_path: JsonOption = None,
) -> None:
    """Export to each runtime, and measure it."""
    prepare_outputs(json_path)
    chosen, sizes = names_in(ways), integers_in(resolutions)
    require_known("way", chosen, WAYS)
    require_known("decoder", [decoder], DECODERS)
    exports: dict[str, Export] = {}
    points = []
    with tempfile.TemporaryDirectory() as work, Console(stderr=True).status("measuring") as status:
        checkpoint = model or Path(work) / "checkpoint"
        if model is None:
            write_random_checkpoint(checkpoint, decoder, "bfloat16", sizes[0])
        for way in chosen:
            folder = checkpoint
            if way not in PYTORCH:
                status.update(f"exporting to {way}")
                folder = Path(work) / way
                exports[way] = export_as(way, checkpoint, folder)
            status.update(f"measuring {way}")
            with OwnProcess(Runner, way, folder, threads) as runner:
                for size in sizes:
                    points.append(Point(way, size, *runner.call("measure", size, new_tokens, repetitions)))
    with thread_count(threads):
        machine = describe_machine(torch.device("cpu"), (*LIBRARIES, "onnxruntime", "openvino", "nncf"))
    results = {
        "checkpoint": str(model) if model else f"FastVLM-{decoder} with random weights",
        "repetitions": repetitions,
        "exports": {way: asdict(each) for way, each in exports.items()},
        "points": [asdict(point) for point in points],
    }
    record = make_record("runtimes", script_command_line(), machine, results)
    print_record(record, runtimes_report, console())
    if json_path is not None:
        write_record(record, json_path)


if __name__ == "__main__":
    run_script(main)
