# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
What this project promises to be faster by, beside what is measured on this machine. Some minutes.

    python benchmarks/promised_ratios.py --threads 2    # `make bench-check`
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from command_lines import JsonOption, run_script, script_command_line
from peer_encoders import ENCODER_PEERS
from peer_vlms import VLM_PEERS
from photograph_preprocessing import run_preprocessing_benchmark
from transformers_fastvlm import FastViTHDConfig
from transformers_fastvlm.benchmark.configurations import OURS, EncoderBenchmarkConfig, TtftBenchmarkConfig
from transformers_fastvlm.benchmark.encoder_latency import EncoderBenchmark, run_encoder_benchmark
from transformers_fastvlm.benchmark.machine import Machine
from transformers_fastvlm.benchmark.records import make_record, write_record
from transformers_fastvlm.benchmark.report import print_record
from transformers_fastvlm.benchmark.synthetic import random_model, random_pixels
from transformers_fastvlm.benchmark.timing import in_fresh_process, pairwise_ratio, thread_count
from transformers_fastvlm.benchmark.ttft import TtftBenchmark, run_ttft_benchmark
from transformers_fastvlm.inference import optimize_for_inference
from transformers_fastvlm.inference.linear_layers import int8_is_fast
from transformers_fastvlm.programs.commands import console, prepare_outputs
from transformers_fastvlm.programs.tables import markdown_table

ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="PyTorch's choice")]


@dataclass(frozen=True)
class Target:
    """
    A promise beside what was measured. FastVLM-0.5B at 1024x1024 unless it says otherwise.

    Args:
        what: is compared.
        least: ratio promised on two cores with AVX-512 and bfloat16 instructions.
        aim: ratio hoped for.
        as_loaded: ratio of the model as it loads; `None` where the promise is about an option.
        optimized: ratio after `optimize_for_inference`; `None` where that changes nothing, or cannot be done here.
    """

    what: str
    least: float
    aim: float
    as_loaded: float | None = None
    optimized: float | None = None

    @property
    def verdict(self) -> str:
        ratios = [ratio for ratio in (self.as_loaded, self.optimized) if ratio is not None]
        if not ratios:
            return "not measured"
        best = max(ratios)
        return "aim" if best >= self.aim else "reached" if best >= self.least else "short"


@dataclass(frozen=True)
class TargetCheck:
    """
    Args:
        machine: what it ran on.
        targets: each with what was measured.
        seconds_to_optimize: what converting the encoder costs with its first image: the first process, a later one.
    """

    machine: Machine
    targets: tuple[Target, ...]
    seconds_to_optimize: tuple[float, float]


def encoder_targets(benchmark: EncoderBenchmark) -> list[Target]:
    """Of one resolution in bfloat16 and float32, beside upstream and ours-openvino."""
    promised = {"bfloat16": (2.2, 2.8), "float32": (1.5, 2.1)}
    targets = []
    for point in benchmark.points:
        ratios = point.ratio("upstream"), point.ratio("upstream", "ours-openvino")
        targets.append(Target(f"encoder, {point.dtype}, vs upstream", *promised[point.dtype], *ratios))
    return targets


def throughput_target(benchmark: EncoderBenchmark) -> Target:
    (point,) = benchmark.points
    what = f"images/s of the encoder, batch {point.batch_size} at {point.resolution}², {point.dtype}, vs upstream"
    return Target(what, 2.0, 3.0, point.ratio("upstream"), point.ratio("upstream", "ours-openvino"))


def first_token_targets(benchmark: TtftBenchmark, in_float32: TtftBenchmark | None) -> list[Target]:
    """
    Args:
        benchmark: of one resolution, with the peers upstream and llava-onevision and both ways of ours.
        in_float32: with llava-onevision; `None`, and no ours-int8 in the other, where the CPU has no int8 to speak of.
    """
    points = {point.name: point for point in benchmark.points}
    upstream, other = points["upstream"].timing, points["llava-onevision"].timing
    ours, optimized = points[OURS].timing, points["ours-openvino"].timing
    int8_ratios: tuple[float | None, float | None] = None, None
    if in_float32 is not None:
        (slowest,) = (point.timing for point in in_float32.points if point.name == "llava-onevision")
        int8 = points["ours-int8"].timing
        int8_ratios = other.median / int8.median, slowest.median / int8.median
    decode = points["upstream"].median("decode")
    return [
        Target(
            "first token, bfloat16, vs upstream",
            2.0,
            2.4,
            pairwise_ratio(upstream.seconds, ours.seconds),
            pairwise_ratio(upstream.seconds, optimized.seconds),
        ),
        Target(
            "first token, bfloat16, vs LLaVA-OneVision at 1152²",
            34.0,
            42.0,
            other.median / ours.median,
            other.median / optimized.median,
        ),
        Target("first token, int8, vs LLaVA-OneVision in bfloat16", 42.0, 55.0, None, int8_ratios[0]),
        Target("first token, int8, vs LLaVA-OneVision in float32", 85.0, 85.0, None, int8_ratios[1]),
        Target(
            "tokens/s after it, bfloat16, vs upstream",
            1.0,
            1.5,
            decode / points[OURS].median("decode"),
            decode / points["ours-openvino"].median("decode"),
        ),
    ]


def seconds_to_optimize(threads: int | None) -> tuple[float, float]:
    """Of a whole FastViTHD in bfloat16, first image of 1024x1024 included: with nothing on disk, and again."""
    seconds = []
    with thread_count(threads), tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for _ in range(2):
            encoder = random_model(FastViTHDConfig(), torch.bfloat16)
            images = random_pixels(1, 1024, torch.bfloat16, torch.device("cpu"))
            start = time.perf_counter()
            optimize_for_inference(encoder, "openvino", cache_dir=Path(folder))
            encoder(images)
            seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def check_targets(threads: int | None = None, progress: Callable[[str], None] = lambda message: None) -> TargetCheck:
    """
    Measure everything that is promised, on the CPU, ours and its peers in turn, each part in a process of its own.

    What is promised of int8 is not measured on a CPU without VNNI instructions.

    Raises:
        MissingLibraryError: if a peer's library is not installed.
    """
    peers, ways = (ENCODER_PEERS["upstream"],), ("ours-openvino",)
    single = EncoderBenchmarkConfig(
        resolutions=(1024,), repetitions=5, warmup=1, threads=threads, ways=ways, peers=peers
    )
    batch = replace(single, resolutions=(512,), dtypes=("bfloat16",), batch_size=8, repetitions=3)
    slowest = VLM_PEERS["llava-onevision"]
    first_token = TtftBenchmarkConfig(
        resolutions=(1024,),
        ways=("ours-openvino", "ours-int8") if int8_is_fast() else ("ours-openvino",),
        threads=threads,
        peers=(VLM_PEERS["upstream"], slowest),
    )
    slow = replace(first_token, dtype="float32", peers=(slowest,), ways=(), new_tokens=1, repetitions=1, warmup=0)
    progress("encoders")
    encoders = in_fresh_process(run_encoder_benchmark, single)
    progress("encoders, a batch")
    throughput = in_fresh_process(run_encoder_benchmark, batch)
    progress("a photograph of 12 megapixels")
    photograph, differences = in_fresh_process(partial(run_preprocessing_benchmark, threads=threads))
    if differences[OURS] != 0:
        raise AssertionError(f"Pixels differ from the original's by {differences[OURS]}.")
    ratio = pairwise_ratio(photograph["upstream-padded"].seconds, photograph[OURS].seconds)
    pixels = Target("12-megapixel photograph to the original's pixels, vs upstream's torchvision", 1.5, 2.5, ratio)
    progress("first tokens")
    ttft = in_fresh_process(run_ttft_benchmark, first_token)
    in_float32 = None
    if "ours-int8" in first_token.ways:
        progress("first tokens in float32")
        in_float32 = in_fresh_process(run_ttft_benchmark, slow)
    progress("converting the encoder")
    cost = in_fresh_process(seconds_to_optimize, threads)
    targets = (
        *encoder_targets(encoders),
        throughput_target(throughput),
        *first_token_targets(ttft, in_float32),
        pixels,
    )
    return TargetCheck(encoders.machine, targets, cost)


def ratios_record(check: TargetCheck, command: str = "") -> dict[str, Any]:
    """Every promise, with its verdict."""
    results = {
        "targets": [{**vars(target), "verdict": target.verdict} for target in check.targets],
        "seconds_to_optimize": list(check.seconds_to_optimize),
    }
    return make_record("ratios", command, check.machine, results)


def ratios_report(record: dict[str, Any]) -> tuple[Table, list[str]]:
    """One row per promise."""
    table = markdown_table(("what",), ("at least", "aim", "as loaded", "optimized"))
    table.add_column("", overflow="fold")
    for target in record["results"]["targets"]:
        measured = ("–" if ratio is None else f"{ratio:.2f}" for ratio in (target["as_loaded"], target["optimized"]))
        table.add_row(target["what"], f"{target['least']:.1f}", f"{target['aim']:.1f}", *measured, target["verdict"])
    cold, warm = record["results"]["seconds_to_optimize"]
    lines = [
        "How many times faster ours is, FastVLM-0.5B at 1024² unless it says otherwise; optimized: after "
        "`optimize_for_inference`.",
        f"Optimizing a bfloat16 encoder costs {cold:.1f} s with its first image, {warm:.1f} s in later processes.",
    ]
    return table, lines


def main(threads: ThreadsOption = None, json_path: JsonOption = None) -> None:
    """Measure every promised ratio; fail if one falls short. Some minutes."""
    errors = Console(stderr=True)
    prepare_outputs(json_path)
    with errors.status("starting") as status:
        check = check_targets(threads, status.update)
    record = ratios_record(check, script_command_line())
    print_record(record, ratios_report, console())
    if json_path is not None:
        write_record(record, json_path)
    if short := [target.what for target in check.targets if target.verdict == "short"]:
        errors.print("Short of the promise:\n" + "\n".join(short), markup=False)
        raise typer.Exit(1)


if __name__ == "__main__":
    run_script(main)
