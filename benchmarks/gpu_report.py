# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The table of what `gpu.py` measured."""

from typing import Any

from rich.table import Table

from transformers_fastvlm.programs.tables import markdown_table

BATCHES = (1, 8, 64)
# In words, its section for models as they load, its name among those optimized, and the keys to the figure.
FIGURES = (
    ("encoder, images/s", "encoder", "encoder", ("images_per_second",), 1),
    ("first token, ms", "answers", "answer", ("first_token", "ms"), 1),
    ("tokens/s after it", "answers", "answer", ("tokens_per_second",), 0),
    ("LoRA step, ms", "lora", None, ("ms",), 0),
)


def gpu_report(record: dict[str, Any]) -> tuple[Table, list[str]]:
    """One row per figure and batch, and a column for each model; a dash where it was not measured."""
    results = record["results"]
    table = markdown_table(("what",), ("batch", "upstream", "ours", "ours, optimized"))

    def figure(section: str, name: str, keys: tuple[str, ...], digits: int) -> str:
        value: Any = results.get(section, {}).get(name)
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return "–" if value is None else f"{value:.{digits}f}"

    for what, section, optimized, keys, digits in FIGURES:
        for batch in BATCHES:
            row = [figure(section, f"{name}, batch {batch}", keys, digits) for name in ("upstream", "ours")]
            row.append(figure("optimized", f"{optimized}, batch {batch}", keys, digits))
            if set(row) != {"–"}:
                table.add_row(what, str(batch), *row)
    llava = figure("llava_onevision", "answer", ("first_token", "ms"), 1)
    lines = [
        "FastVLM-0.5B's sizes, random weights, bfloat16, 1024² pixels, 296 tokens of prompt; medians. "
        f"LLaVA-OneVision-0.5B at 1152² (7411 tokens), batch 1: first token {llava} ms."
    ]
    return table, lines
