# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the card tells besides: measurements, training facts, an example. Read before anything is loaded."""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import EvalResult
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..evaluation.comparison import read_results
from ..evaluation.report import score
from ..programs.files import without_paths
from .checkpoint_source import CheckpointSource
from .errors import PublishError
from .folder_files import read_object
from .publish_settings import PublishSettings

TASK = "image-text-to-text"
_LARGEST_EXAMPLE = 1024
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class CardMaterial:
    """
    Args:
        scores: for the card's metadata.
        score_rows: the same for its table.
        command: how they were measured, of the published repository.
        benchmark: what `fastvlm bench ttft --json` wrote.
        benchmark_table: what the card says of it.
        training: rows of facts about how the weights came about.
        example: a picture that the model can be asked about, without metadata of its own.
    """

    scores: list[EvalResult]
    score_rows: list[dict[str, Any]]
    command: str
    benchmark: dict[str, Any] | None
    benchmark_table: dict[str, Any] | None
    training: list[dict[str, Any]]
    example: Image.Image


def read_card_material(settings: PublishSettings, source: CheckpointSource) -> CardMaterial:
    """
    Read the files that the user gave, and those beside the weights.

    Raises:
        PublishError: if one is not in the form that `fastvlm` or transformers' Trainer writes.
    """
    try:
        results = read_results(settings.results) if settings.results is not None else {}
    except ValueError as error:
        raise PublishError(str(error)) from error
    rows = results.get("results", [])
    origin = f"{settings.results} is not what `fastvlm evaluate --output` writes"
    benchmark = read_object(settings.benchmark) if settings.benchmark is not None else None
    return CardMaterial(
        _understood(origin, lambda: [_eval_result(row) for row in rows]),
        _understood(origin, lambda: [_score_row(row) for row in rows]),
        _understood(origin, lambda: public_command(results.get("command") or "", settings)),
        benchmark,
        _understood(
            f"{settings.benchmark} is not what `fastvlm bench ttft --json` writes", lambda: _benchmark_table(benchmark)
        ),
        _training_rows(source),
        _example(settings.example_image),
    )


def _understood(origin: str, make: Callable[[], _Made]) -> _Made:
    try:
        return make()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise PublishError(f"{origin}: {type(error).__name__}: {error}.") from error


def _eval_result(result: dict[str, Any]) -> EvalResult:
    if not math.isfinite(result["value"]):
        raise ValueError(f"the value of {result['task']} is {result['value']}")
    return EvalResult(
        task_type=TASK,
        dataset_type=result["dataset_id"] or result["task"],
        dataset_name=result["dataset_name"],
        dataset_split=result["dataset_split"],
        metric_type=result["metric"],
        metric_name=result["metric_name"],
        metric_value=round(result["value"], 2),
    )


def _score_row(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset": result["dataset_name"],
        "split": result["dataset_split"] or "",
        "metric": result["metric_name"],
        "value": score(result),
        "samples": result["samples"],
    }


def public_command(command: str, settings: PublishSettings) -> str:
    """A command that was run on a checkpoint of this machine, for the repository that it becomes.

    Of other absolute paths, only the last part stays.
    """
    names: dict[str, str | None] = {"--model": settings.repo_id, "--adapter": None}
    if settings.adapter:
        base = {"--model": settings.base_model} if settings.base_model else {}
        names = {"--adapter": settings.repo_id, **base}
    words = [part for word in shlex.split(command) for part in _option_and_value(word)]
    public: list[str] = []
    for option, word in zip(["", *words], words):
        if names.get(word, word) is None:  # merged: the repository is the model
            continue
        if option not in names:
            public.append(without_paths(word))
        elif (name := names[option]) is not None:
            public.append(name)
    return shlex.join(public)


def _option_and_value(word: str) -> list[str]:
    option, equals, value = word.partition("=")
    return [option, value] if equals and option.startswith("--") else [word]


def _benchmark_table(content: dict[str, Any] | None) -> dict[str, Any] | None:
    if content is None:
        return None
    if content.get("benchmark") != "ttft":
        raise ValueError(f"its `benchmark` is {content.get('benchmark')!r}")
    from ..benchmark.report import ttft_report

    ttft_report(content)  # reads all that the picture is drawn from
    results, machine = content["results"], content["machine"]
    config = results["config"]
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return {
        "machine": f"{machine['cpu']}, {threads}, device {machine['device']}, {config['dtype']}",
        "subject": "this model is `ours`"
        if config["model"]
        else f"`ours`: decoder {config['decoder']}, random weights",
        "rows": [
            {
                "model": point["model"],
                "pixels": f"{point['resolution']}²",
                "tokens": point["visual_tokens"],
                "first_token": f"{point['first_token'] * 1e3:.1f}",
                "speed": f"{point['tokens_per_second']:.1f}" if point["tokens_per_second"] else "–",
            }
            for point in results["points"]
        ],
    }


def _training_rows(source: CheckpointSource) -> list[dict[str, Any]]:
    """What the files beside the weights tell about how they came about."""
    rows = [{"name": "data", "value": ", ".join(source.datasets)}] if source.datasets else []
    adapter = source.adapter_config
    if adapter:
        rows += [{"name": "LoRA rank, alpha", "value": f"{adapter.get('r')}, {adapter.get('lora_alpha')}"}]
    state_file = source.given.find("trainer_state.json")
    if state_file is None:
        return rows
    state = read_object(state_file)
    return rows + _understood(f"{state_file} is not what transformers' Trainer writes", lambda: _trainer_rows(state))


def _trainer_rows(state: dict[str, Any]) -> list[dict[str, Any]]:
    losses = [entry["eval_loss"] for entry in state.get("log_history", []) if "eval_loss" in entry]
    return [
        {"name": "steps", "value": f"{state['global_step']:d}"},
        {"name": "epochs", "value": f"{state['epoch']:.2f}"},
        *([{"name": "loss on held-out data", "value": f"{losses[-1]:.4g}"}] if losses else []),
    ]


def _example(path: Path | None) -> Image.Image:
    """The user's picture, upright and without what cameras note in it; by default a word that a FastVLM can read."""
    if path is None:
        image = Image.new("RGB", (480, 320), "white")
        ImageDraw.Draw(image).text((240, 160), "HELLO", "black", ImageFont.load_default(96), anchor="mm")
        return image
    try:
        with Image.open(path) as opened:
            given = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PublishError(f"{path} cannot be read as an image: {error}") from error
    given.thumbnail((_LARGEST_EXAMPLE, _LARGEST_EXAMPLE))
    image = Image.new("RGB", given.size)
    image.paste(given)
    return image
