# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Memory and speed of fine-tuning: LoRA, QLoRA, and everything."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ..auto import AutoModelForVision2Seq
from ..configuration_fastvlm import FastVLMConfig
from ..extras import require
from ..inference import load_model
from ..inference.model_loading import base_of
from ..quantization import quantization_config
from ..training import PARTS, lora_target_modules, parameter_groups, train_only
from ..training.collator import learnt_positions
from ..training.rows import NO_LOSS
from .configurations import CACHED, TrainingBenchmarkConfig
from .machine import LIBRARIES, Machine, describe_machine
from .synthetic import random_model
from .timing import Timing, in_fresh_process, process_memory, synchronize, thread_count


@dataclass(frozen=True)
class TrainingPoint:
    """
    What one method took.

    Args:
        method: which.
        timing: seconds per step; its memory is the largest of the whole training, weights and optimizer included.
        tokens: per step, visual ones included.
        trainable: parameters that train.
    """

    method: str
    timing: Timing
    tokens: int
    trainable: int

    def tokens_per_second(self) -> float:
        return self.tokens / self.timing.median


@dataclass(frozen=True)
class TrainingSubject:
    """
    A way to train, to time. To go to another process, its functions must be such that can be imported there.

    Args:
        name: in tables.
        build: a model that trains, from the configuration.
        batch: what a step of it takes, from the configuration and that model.
        requires: modules beside PEFT.
    """

    name: str
    build: Callable[[TrainingBenchmarkConfig], Any]
    batch: Callable[[TrainingBenchmarkConfig, Any], dict[str, Any]]
    requires: tuple[str, ...] = ()

    def require(self) -> None:
        """
        Raises:
            MissingLibraryError: if a module is not installed.
        """
        require(self.requires, "dev", self.name)


@dataclass(frozen=True)
class TrainingBenchmark:
    config: TrainingBenchmarkConfig
    machine: Machine
    points: tuple[TrainingPoint, ...]


@contextmanager
def model_or_random(model: str | None) -> Iterator[str]:
    """`model` itself, or the folder of a FastVLM-0.5B with random weights, which the end of the context removes."""
    if model is not None:
        yield model
        return
    with tempfile.TemporaryDirectory() as folder:
        random_model(FastVLMConfig(), torch.bfloat16, AutoModelForVision2Seq).save_pretrained(folder)
        yield folder


def build_trainable(config: TrainingBenchmarkConfig, method: str) -> Any:
    """The model, made ready for training by `method`."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    folder: Any = config.model
    dtype = getattr(torch, config.dtype)
    quantization = quantization_config("nf4", dtype) if method == "qlora" else None
    model = load_model(folder, quantization=quantization, dtype=dtype, device=config.device)
    if method == "full":
        train_only(model, PARTS)
    else:
        if method == "qlora":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        targets = lora_target_modules(model)
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, task_type="CAUSAL_LM", target_modules=targets))
    return ready_to_train(model, config)


def ready_to_train(model: Any, config: TrainingBenchmarkConfig) -> Any:
    """The model in training mode, with gradient checkpointing where that is asked for."""
    if config.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def make_batch(config: TrainingBenchmarkConfig, settings: FastVLMConfig) -> dict[str, torch.Tensor]:
    """One image and random text per example, for a model of these settings."""
    vision = settings.vision_config
    placeholders = (vision.image_size // vision.stride) ** 2
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, settings.image_token_id, (config.batch_size, config.text_tokens), generator=generator)
    images = torch.full((config.batch_size, placeholders), settings.image_token_id)
    input_ids = torch.cat([text[:, :1], images, text[:, 1:]], dim=1)
    labels = input_ids.clone()
    labels[:, : -(config.text_tokens // 2)] = NO_LOSS
    pixels = torch.rand(config.batch_size, 3, vision.image_size, vision.image_size, generator=generator)
    batch = {"input_ids": input_ids, "labels": labels, "pixel_values": pixels}
    return {name: tensor.to(config.device) for name, tensor in batch.items()}


def batch_of_pixels(config: TrainingBenchmarkConfig, model: Any) -> dict[str, Any]:
    """`make_batch` for a model of ours, as `fastvlm finetune` collates it."""
    batch = make_batch(config, model.config)
    return batch | learnt_positions(batch["labels"])


@torch.no_grad()
def batch_of_features(config: TrainingBenchmarkConfig, model: Any) -> dict[str, Any]:
    """The same with the encoder's features in place of the pixels, as `ImageFeatures` keeps them."""
    batch = batch_of_pixels(config, model)
    encoder = base_of(model).model.vision_tower
    features = encoder(batch.pop("pixel_values")).last_hidden_state
    return batch | {"mm_encoder_outputs": {"image": {"last_hidden_state": features}}}


METHOD_SUBJECTS = {
    name: TrainingSubject(name, partial(build_trainable, method=name.removesuffix(CACHED)), batch)
    for name, batch in (
        *((name, batch_of_pixels) for name in ("lora", "qlora", "full")),
        *((name + CACHED, batch_of_features) for name in ("lora", "qlora")),
    )
}


def measure_method(config: TrainingBenchmarkConfig, subject: TrainingSubject) -> TrainingPoint:
    """Train a few steps and measure them. In a process of its own, or memory of earlier methods counts too."""
    device = torch.device(config.device)
    with thread_count(config.threads):
        model = subject.build(config)
        batch = subject.batch(config, model)
        optimizer = torch.optim.AdamW(parameter_groups(model, 1e-5))
        seconds = []
        for step in range(config.warmup + config.steps):
            synchronize(device)
            start = time.perf_counter()
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            synchronize(device)
            if step >= config.warmup:
                seconds.append(time.perf_counter() - start)
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else process_memory("VmHWM")
    return TrainingPoint(subject.name, Timing(tuple(seconds), peak), batch["input_ids"].numel(), trainable)


def run_training_benchmark(
    config: TrainingBenchmarkConfig, progress: Callable[[str], None] = lambda message: None
) -> TrainingBenchmark:
    """
    Measure every method, each in a fresh process.

    A model with random weights is written to a temporary folder for them.

    Raises:
        ImportError: if a method needs a library that is not installed.
    """
    points = []
    with model_or_random(config.model) as folder:
        of_folder = replace(config, model=folder, peers=())
        for subject in (*(METHOD_SUBJECTS[name] for name in config.methods), *config.peers):
            progress(f"training with {subject.name}")
            points.append(in_fresh_process(measure_method, of_folder, subject))
    with thread_count(config.threads):
        machine = describe_machine(torch.device(config.device), (*LIBRARIES, "peft", "bitsandbytes"))
    return TrainingBenchmark(config, machine, tuple(points))
