# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM-0.5B on an accelerator, beside transformers' own FastVLM and LLaVA-OneVision-0.5B, all with random weights.

    python benchmarks/gpu.py --output runs/gpu.json

Measures encoder, first token, decoding and a LoRA step at several batch sizes, what `optimize_for_inference` and
static caches make of them, where the encoder's time goes, and what the host waits for. The JSON file is written after
each section, with a picture of the same name beside it at the end; sections that fail, or for which no time is left,
say so in it. `--tiny` tries it out on any machine.
"""

import argparse
import json
import signal
import statistics
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForImageTextToText, FastVlmConfig, LlavaOnevisionConfig

from gpu_report import draw
from transformers_fastvlm import FastVLMConfig
from transformers_fastvlm.benchmark.machine import LIBRARIES, describe_machine
from transformers_fastvlm.benchmark.records import make_record, write_record
from transformers_fastvlm.benchmark.timing import call_peak_memory, synchronize
from transformers_fastvlm.benchmark.vlm_subjects import random_prompts, text_config
from transformers_fastvlm.inference import optimize_for_inference
from transformers_fastvlm.programs.commands import script_command_line
from transformers_fastvlm.training import lora_target_modules

TEXT_TOKENS = 40
LLAVA_SIDE = 1152  # nine tiles of 384 and the overview
TINY_QWEN2 = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY_QWEN2 |= {"vocab_size": 2000}
TINY_SIGLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
TINY_SIGLIP |= {"image_size": 384, "patch_size": 14}
TINY_SIZE = {"layers": (1, 1, 1, 1, 1), "embed_dims": (32, 32, 32, 32, 32)}
# FastViTHD's depthwise convolutions: channels, outputs for each, kernel, stride, and the image's side over theirs.
DEPTHWISE = [
    (96, 1, 3, 2, 2),
    (96, 1, 3, 1, 4),
    (96, 1, 7, 1, 4),
    (96, 2, 7, 2, 4),
    (192, 1, 3, 1, 8),
    (192, 1, 7, 1, 8),
    (192, 2, 7, 2, 8),
    (384, 1, 3, 1, 16),
    (384, 1, 7, 1, 16),
    (384, 2, 7, 2, 16),
    (768, 1, 7, 1, 32),
    (768, 2, 7, 2, 32),
    (1536, 1, 7, 1, 64),
    (1536, 2, 3, 1, 64),
]


class OutOfTimeError(BaseException):
    """A section took longer than it may. Not an `Exception`, which compilers catch and go on."""


class Bench:
    """Settings, and results as they come.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace):
        self.start = time.perf_counter()
        self.options = options
        self.device = torch.device(options.device)
        self.dtype = torch.float32 if options.tiny else torch.bfloat16
        self.side = 128 if options.tiny else 1024
        self.batches = (1, 2) if options.tiny else (1, 8, 64)
        self.new_tokens = 4 if options.tiny else 32
        self.seconds = 0.01 if options.tiny else 0.6  # of one measurement
        self.text = text_config("0.5B") | (TINY_QWEN2 if options.tiny else {})
        self.image_token_id = self.text["vocab_size"] - 290  # that of the released checkpoints
        self.models: dict[str, Any] = {}
        self.results: dict[str, Any] = {}

    def say(self, text: str) -> None:
        print(f"[{time.perf_counter() - self.start:6.1f} s] {text}", flush=True)

    def section(self, function: Callable[["Bench", dict[str, Any]], None], limit: float) -> None:
        """Run a part of the benchmark, for at most `limit` seconds, and write what there is of its results."""
        name = function.__name__
        results = self.results[name] = {}
        left = self.options.budget - (time.perf_counter() - self.start)
        if left < 5:
            results["not measured"] = "no time was left"
            return
        self.say(name)

        def stop(*_: Any) -> None:
            raise OutOfTimeError(f"stopped after {min(limit, left):.0f} seconds")

        before = time.perf_counter()
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, min(limit, left))
        try:
            function(self, results)
        except (Exception, OutOfTimeError) as error:
            results["failed"] = f"{type(error).__name__}: {error}"
            traceback.print_exc(limit=-4, file=sys.stdout)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        results["seconds"] = round(time.perf_counter() - before, 2)
        self.write()

    def attempt(
        self, results: dict[str, Any], name: str, measure: Callable[..., Any], *arguments: Any, **options: Any
    ) -> None:
        """Note what `measure` returns, or why it failed."""
        try:
            results[name] = measure(*arguments, **options)
        except Exception as error:
            results[name] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
            traceback.print_exc(limit=-4, file=sys.stdout)
        self.say(f"  {name}: {json.dumps(results[name])[:300]}")

    def record(self) -> dict[str, Any]:
        packages = (*LIBRARIES, "triton", "timm", "peft")
        record = make_record("gpu", script_command_line(), describe_machine(self.device, packages), self.results)
        record["machine"] |= gpu_properties(self.device)
        return record

    def write(self) -> None:
        self.options.output.parent.mkdir(parents=True, exist_ok=True)
        write_record(self.record(), self.options.output)

    def milliseconds(self, call: Callable[[], Any], warmup: int = 2, least: int = 3, most: int = 40) -> list[float]:
        """What `call` takes, again and again, from a device at rest to a device at rest."""
        for _ in range(warmup):
            call()
        taken: list[float] = []
        while len(taken) < least or (len(taken) < most and sum(taken) < 1000 * self.seconds):
            synchronize(self.device)
            before = time.perf_counter()
            call()
            synchronize(self.device)
            taken.append(1000 * (time.perf_counter() - before))
        return taken

    def timing(self, call: Callable[[], Any], images: int = 1, **limits: int) -> dict[str, float]:
        """Median, extremes and rate of a call on so many images, and its peak memory beyond what was held."""
        taken = self.milliseconds(call, **limits)
        result = {
            "ms": round(statistics.median(taken), 3),
            "least_ms": round(min(taken), 3),
            "most_ms": round(max(taken), 3),
            "runs": len(taken),
            "images_per_second": round(1000 * images / statistics.median(taken), 2),
        }
        if self.device.type == "cuda":
            result["peak_MiB"] = round((call_peak_memory(call, self.device) or 0) / 2**20)
        return result

    def pixels(self, images: int) -> torch.Tensor:
        generator = torch.Generator(self.device).manual_seed(0)
        shape = images, 3, self.side, self.side
        return torch.rand(shape, generator=generator, device=self.device).to(self.dtype)

    def build(self, config: Any) -> Any:
        torch.manual_seed(0)
        try:
            with torch.device(self.device):  # where random numbers come soonest
                return AutoModelForImageTextToText.from_config(config, dtype=self.dtype).eval()
        except RuntimeError:
            return AutoModelForImageTextToText.from_config(config, dtype=self.dtype).eval().to(self.device)

    def model(self, name: str) -> Any:
        """Ours or upstream's model; built when it is first asked for."""
        if name not in self.models:
            self.models[name] = self.build(our_config(self) if name == "ours" else upstream_config(self))
        return self.models[name]

    def generation(self, model: Any, inputs: dict[str, torch.Tensor], images: int, **options: Any) -> dict[str, Any]:
        """First token from pixels, and tokens after it, for so many prompts at once."""
        ids = random_prompts(model, inputs, images, TEXT_TOKENS)
        prompt = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs}

        def answer(tokens: int) -> Any:
            return model.generate(
                **prompt, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False, pad_token_id=0, **options
            )

        before = time.perf_counter()
        answer(1 + self.new_tokens)
        synchronize(self.device)
        warmup = time.perf_counter() - before
        first = self.timing(lambda: answer(1), images, warmup=1, most=10)
        whole = statistics.median(self.milliseconds(lambda: answer(1 + self.new_tokens), warmup=0, most=3))
        each = (whole - first["ms"]) / self.new_tokens
        return {
            "prompt_tokens": ids.shape[1],
            "first_run_seconds": round(warmup, 2),
            "first_token": first,
            "ms_per_step": round(each, 3),
            "tokens_per_second": round(1000 * images / each, 1),
        }


def our_config(bench: Bench) -> Any:
    vision: dict[str, Any] = {"image_size": bench.side}
    if bench.options.tiny:
        vision |= {"depths": list(TINY_SIZE["layers"]), "hidden_sizes": list(TINY_SIZE["embed_dims"])}
    return FastVLMConfig(vision_config=vision, text_config=dict(bench.text), image_token_id=bench.image_token_id)


def upstream_config(bench: Bench) -> Any:
    config: Any = FastVlmConfig(text_config=dict(bench.text), image_token_index=bench.image_token_id)
    if bench.options.tiny:
        config.vision_config.model_args = {**config.vision_config.model_args, **TINY_SIZE}
        config.vision_config.hidden_size = 2 * TINY_SIZE["embed_dims"][-1]
    return config


def gpu_properties(device: torch.device) -> dict[str, Any]:
    """What `describe_machine` does not say of a GPU; nothing of other devices."""
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "memory_GiB": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


@torch.no_grad()
def limits(bench: Bench, results: dict[str, Any]) -> None:
    """What the machine can do at most: one large matrix product, and a copy of memory."""
    size = 256 if bench.options.tiny else 8192
    left, right = (torch.randn(size, size, device=bench.device, dtype=bench.dtype) for _ in range(2))
    results["TFLOP_per_second"] = round(2e-9 * size**3 / bench.timing(lambda: left @ right)["ms"], 1)
    source = torch.randn(size * size * 8, device=bench.device, dtype=bench.dtype)
    target = torch.empty_like(source)
    taken = bench.timing(lambda: target.copy_(source))["ms"]
    results["GB_per_second"] = round(2e-6 * source.nbytes / taken, 1)


@torch.no_grad()
def encoder(bench: Bench, results: dict[str, Any]) -> None:
    """The vision towers alone, as they are loaded, and ours with what could be changed about it."""
    for images in bench.batches:
        pixels = bench.pixels(images)
        for name in ("ours", "upstream"):
            tower = bench.model(name).model.vision_tower
            bench.attempt(results, f"{name}, batch {images}", bench.timing, partial(tower, pixels), images)
    pixels, tower = bench.pixels(bench.batches[1]), bench.model("ours").model.vision_tower
    torch.backends.cudnn.benchmark = True
    name = f"ours, cuDNN chooses by measuring, batch {len(pixels)}"
    bench.attempt(results, name, bench.timing, partial(tower, pixels), len(pixels), warmup=3)
    torch.backends.cudnn.benchmark = False
    upstream = bench.model("upstream").model.vision_tower.to(memory_format=torch.channels_last)
    last = pixels.contiguous(memory_format=torch.channels_last)
    name = f"upstream, channels last, batch {len(pixels)}"
    bench.attempt(results, name, bench.timing, partial(upstream, last), len(pixels))
    upstream.to(memory_format=torch.contiguous_format)


def top_kernels(bench: Bench, call: Callable[[], Any], count: int = 10) -> dict[str, Any]:
    """The kernels (operations on a CPU) that most of the device's time goes to."""
    cuda = bench.device.type == "cuda"
    call()
    synchronize(bench.device)
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]) as profiler:
        for _ in range(3):
            call()
        synchronize(bench.device)
    times: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in profiler.key_averages():
        taken = event.self_device_time_total if cuda else event.self_cpu_time_total
        if cuda and (event.device_type != torch.autograd.DeviceType.CUDA or event.is_user_annotation):
            continue
        if taken > 0:
            times[event.key] += taken
            calls[event.key] += event.count
    total = sum(times.values())
    top = [
        {
            "kernel": name[:160],
            "share": round(taken / total, 4),
            "ms": round(taken / 3000, 3),
            "calls": calls[name] / 3,
        }
        for name, taken in times.most_common(count)
    ]
    return {"device_ms": round(total / 3000, 3), "kernels": sum(calls.values()) / 3, "top": top}


@torch.no_grad()
def encoder_profile(bench: Bench, results: dict[str, Any]) -> None:
    for images in bench.batches[:2]:
        pixels = bench.pixels(images)
        for name in ("ours", "upstream"):
            tower = bench.model(name).model.vision_tower
            bench.attempt(results, f"{name}, batch {images}", top_kernels, bench, partial(tower, pixels))


@torch.no_grad()
def depthwise(bench: Bench, results: dict[str, Any]) -> None:
    """Each of FastViTHD's depthwise convolutions alone, in both layouts, beside what its memory traffic takes."""
    for channels, multiplier, kernel, stride, reduction in DEPTHWISE:
        side = bench.side // reduction
        conv = nn.Conv2d(channels, multiplier * channels, kernel, stride, kernel // 2, groups=channels)
        conv = conv.to(bench.device, bench.dtype)
        inputs = torch.randn(bench.batches[1], channels, side, side, device=bench.device, dtype=bench.dtype)
        row: dict[str, float] = {}
        for layout in ("channels_last", "contiguous_format"):
            laid_out = inputs.contiguous(memory_format=getattr(torch, layout))
            taken = bench.milliseconds(partial(conv, laid_out), most=5)
            row[f"{layout}_ms"] = round(statistics.median(taken), 4)
        moved = inputs.nbytes + conv(inputs).nbytes
        row["GB_per_second"] = round(1e-6 * moved / min(row.values()), 1)
        name = f"{channels} channels, {multiplier} each, {kernel}x{kernel}, stride {stride}, side {side}"
        results[f"{name}, batch {len(inputs)}"] = row


def answers(bench: Bench, results: dict[str, Any]) -> None:
    """First token and decoding, as loaded."""
    for images in bench.batches:
        inputs = {"pixel_values": bench.pixels(images)}
        for name in ("ours", "upstream"):
            bench.attempt(results, f"{name}, batch {images}", bench.generation, bench.model(name), inputs, images)


def waits(bench: Bench, results: dict[str, Any]) -> None:
    """Where the host waits for the GPU, by file and line, while ours answers with one token, and with nine."""
    if bench.device.type != "cuda":
        results["not measured"] = "only CUDA tells"
        return
    for name in ("ours", "upstream"):
        model, inputs = bench.model(name), {"pixel_values": bench.pixels(1)}
        ids = random_prompts(model, inputs, 1, TEXT_TOKENS)
        for tokens in (1, 9):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    model.generate(
                        input_ids=ids, **inputs, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0
                    )
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            places = [f"{Path(one.filename).name}:{one.lineno}" for one in caught if "synchroniz" in str(one.message)]
            results[f"{name}, {tokens} tokens"] = {"count": len(places), "places": Counter(places).most_common()}


def training_step(model: Any, optimizer: torch.optim.Optimizer, **inputs: torch.Tensor) -> None:
    model(**inputs).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def lora(bench: Bench, results: dict[str, Any]) -> None:
    """A training step of rank-16 adapters on the decoder's linear layers."""
    from peft import LoraConfig, get_peft_model

    targets = lora_target_modules(bench.model("ours"))
    for name in ("ours", "upstream"):
        base = bench.model(name)
        config = LoraConfig(r=16, lora_alpha=32, task_type="CAUSAL_LM", target_modules=targets)
        model = get_peft_model(base, config).train()
        optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], 1e-5)
        for images in bench.batches[:2]:
            inputs = {"pixel_values": bench.pixels(images)}
            ids = random_prompts(base, inputs, images, TEXT_TOKENS)
            labels = ids.clone()
            labels[:, : -TEXT_TOKENS // 2] = -100
            step = partial(training_step, model, optimizer, input_ids=ids, labels=labels, **inputs)
            bench.attempt(results, f"{name}, batch {images}", bench.timing, step, images, most=10)
        bench.models[name] = model.unload().eval()
        bench.models[name].requires_grad_(False)


def llava_onevision(bench: Bench, results: dict[str, Any]) -> None:
    """LLaVA-OneVision-0.5B's tower over all tiles of one image, and its first token."""
    vision: dict[str, Any] = {}
    if bench.options.tiny:
        vision = {"vision_config": {"model_type": "siglip_vision_model", **TINY_SIGLIP}}
    side = 768 if bench.options.tiny else LLAVA_SIDE
    config: Any = LlavaOnevisionConfig(text_config=dict(bench.text), image_token_index=bench.image_token_id, **vision)
    model = bench.build(config)
    crop = config.vision_config.image_size
    tiles = 1 + (side // crop) ** 2
    shape = 1, tiles, 3, crop, crop
    inputs = {
        "pixel_values": torch.rand(shape, device=bench.device).to(bench.dtype),
        "image_sizes": torch.tensor([[side, side]], device=bench.device),
    }
    tower = model.base_model.vision_tower
    with torch.no_grad():
        bench.attempt(results, "encoder", bench.timing, partial(tower, inputs["pixel_values"][0]))
    bench.attempt(results, "answer", bench.generation, model, inputs, 1)


@torch.no_grad()
def first_calls(bench: Bench, tower: Callable[..., Any], pixels: torch.Tensor) -> float:
    """Seconds of the first calls, which compile, record and replay."""
    before = time.perf_counter()
    for _ in range(3):
        tower(pixels)
    synchronize(bench.device)
    return round(time.perf_counter() - before, 1)


@torch.no_grad()
def graph_by_shape(bench: Bench, results: dict[str, Any]) -> None:
    """Another way than `optimize_for_inference`'s: compiled for fixed shapes, each a CUDA graph recorded by hand."""
    if bench.device.type != "cuda":
        results["not measured"] = "only CUDA has graphs"
        return
    tower = bench.model("ours").model.vision_tower.forward
    compiled = torch.compile(tower, dynamic=False)
    for images in bench.batches[:2]:
        pixels = bench.pixels(images)
        seconds = first_calls(bench, compiled, pixels)
        bench.attempt(results, f"compiled, batch {images}", bench.timing, partial(compiled, pixels), images)
        results[f"compiled, batch {images}"]["first_calls_seconds"] = seconds
        for name, function in (("compiled", compiled), ("as loaded", tower)):
            bench.attempt(results, f"{name}, a graph, batch {images}", timed_graph, bench, function, pixels)
        bench.attempt(results, f"compiled, batch {images}, profile", top_kernels, bench, partial(compiled, pixels))


def timed_graph(bench: Bench, function: Callable[..., Any], pixels: torch.Tensor) -> dict[str, float]:
    """Record a call as a CUDA graph and time its replays, each of which hands out features of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function(pixels)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        features = function(pixels).last_hidden_state

    def replay() -> torch.Tensor:
        graph.replay()
        return features.clone()

    return bench.timing(replay, len(pixels))


def optimized(bench: Bench, results: dict[str, Any]) -> None:
    """Ours after `optimize_for_inference`, whose first call of each shape compiles."""
    model = bench.model("ours")
    tower = model.model.vision_tower
    encoder: Any = None if bench.device.type != "cpu" else "eager"
    bench.attempt(results, "call", lambda: vars(optimize_for_inference(model, encoder=encoder)))
    for images in bench.batches:
        pixels = bench.pixels(images)
        results[f"encoder, batch {images}, first calls"] = {"seconds": first_calls(bench, tower, pixels)}
        with torch.no_grad():
            bench.attempt(results, f"encoder, batch {images}", bench.timing, partial(tower, pixels), images)
        inputs = {"pixel_values": pixels}
        bench.attempt(results, f"answer, batch {images}", bench.generation, model, inputs, images)


def static_cache(bench: Bench, results: dict[str, Any]) -> None:
    """Decoding with a static cache, for which transformers compiles the step and records it."""
    inputs = {"pixel_values": bench.pixels(1)}
    for name in ("ours", "upstream"):
        bench.attempt(
            results,
            f"{name}, batch 1",
            bench.generation,
            bench.model(name),
            inputs,
            1,
            cache_implementation="static",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("runs/gpu.json"), help="the JSON file; a PNG comes beside it"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--budget", type=float, default=210, help="seconds, after which no section begins or goes on")
    parser.add_argument("--tiny", action="store_true", help="small models and images, to try the program out")
    bench = Bench(parser.parse_args())
    bench.say(json.dumps(bench.record()["machine"]))
    # What compiles comes last.
    parts = {
        limits: 20,
        encoder: 50,
        encoder_profile: 30,
        depthwise: 15,
        answers: 70,
        waits: 15,
        lora: 30,
        llava_onevision: 30,
        optimized: 130,
        static_cache: 70,
        graph_by_shape: 90,
    }
    for part, limit in parts.items():
        bench.section(part, limit)
    bench.attempt({}, "picture", draw, bench.results, bench.options.output.with_suffix(".png"))
    bench.say(f"wrote {bench.options.output}")


if __name__ == "__main__":
    main()
