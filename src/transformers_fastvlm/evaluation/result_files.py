# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`results.json` and the samples beside it: what an evaluation leaves."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..extras import installed_versions
from ..programs.files import write_text

_LIBRARIES = (
    "transformers-fastvlm",
    "transformers",
    "torch",
    "lmms-eval",
    "datasets",
    "peft",
    "bitsandbytes",
    "torchao",
)


def results_record(model: str, command: str, settings: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `results.json` holds: a row per task and metric, and what they were made with."""
    return {
        "model": model,
        "command": command,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": installed_versions(_LIBRARIES),
        "settings": settings,
        "results": rows,
    }


def write_results(output: Path, results: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """The results at `output`, and beside them what was asked and answered, one document per line."""
    lines = (json.dumps(sample, ensure_ascii=False, default=str) + "\n" for sample in samples)
    write_text(output.with_suffix(".samples.jsonl"), "".join(lines))
    write_text(output, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
