# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The table and the picture of what `gpu.py` measured."""

from pathlib import Path
from typing import Any

from rich.table import Table

from transformers_fastvlm.programs.tables import markdown_table

BATCHES = (1, 8, 64)
MODELS = ("upstream", "ours", "ours, optimized")
# In words, its section for models as they load, its name among those optimized, and the keys to the figure.
FIGURES = (
    ("encoder, images/s", "encoder", "encoder", ("images_per_second",), 1),
    ("first token, ms", "answers", "answer", ("first_token", "ms"), 1),
    ("tokens/s after it", "answers", "answer", ("tokens_per_second",), 0),
    ("LoRA step, ms", "lora", None, ("ms",), 0),
)
PANELS = (
    ("encoder, images/s", "encoder", "encoder", ("images_per_second",)),
    ("first token, images/s", "answers", "answer", ("first_token", "images_per_second")),
    ("decoding, tokens/s", "answers", "answer", ("tokens_per_second",)),
)


def found(results: dict[str, Any], section: str, name: str, keys: tuple[str, ...]) -> float | None:
    """A figure of a section by its name and keys; `None` where it was not measured."""
    value: Any = results.get(section, {}).get(name)
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def of_models(
    results: dict[str, Any], section: str, optimized: str | None, batch: int, keys: tuple[str, ...]
) -> list[float | None]:
    """A figure of each of `MODELS`."""
    loaded = [found(results, section, f"{name}, batch {batch}", keys) for name in MODELS[:2]]
    return [*loaded, found(results, "optimized", f"{optimized}, batch {batch}", keys)]


def gpu_report(record: dict[str, Any]) -> tuple[Table, list[str]]:
    """One row per figure and batch, and a column for each model; a dash where it was not measured."""
    results = record["results"]
    table = markdown_table(("what",), ("batch", *MODELS))
    for what, section, optimized, keys, digits in FIGURES:
        for batch in BATCHES:
            values = of_models(results, section, optimized, batch, keys)
            if any(value is not None for value in values):
                table.add_row(what, str(batch), *(_text(value, digits) for value in values))
    llava = _text(found(results, "llava_onevision", "answer", ("first_token", "ms")), 1)
    lines = [
        "FastVLM-0.5B's sizes, random weights, bfloat16, 1024² pixels, 296 tokens of prompt; medians. "
        f"LLaVA-OneVision-0.5B at 1152² (7411 tokens), batch 1: first token {llava} ms."
    ]
    return table, lines


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of images and tokens per second, ours beside upstream, and as optimized."""
    from matplotlib import pyplot

    batches = sorted(int(name.rpartition(" ")[2]) for name in results.get("answers", {}) if name.startswith("ours"))
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(13, 4))
    for axis, (title, section, optimized, keys) in zip(axes, PANELS):
        rates = [of_models(results, section, optimized, batch, keys) for batch in batches]
        for index, name in enumerate(MODELS):
            places = [place + 0.27 * index for place in range(len(batches))]
            axis.bar(places, [rate[index] or 0 for rate in rates], width=0.25, label=name)
        axis.set_xticks([place + 0.27 for place in range(len(batches))], [f"batch {batch}" for batch in batches])
        axis.set_title(title)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
