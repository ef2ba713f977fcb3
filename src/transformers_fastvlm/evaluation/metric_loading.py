# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The metric modules beside this file, for `evaluate`, which would fetch those of other names from the Hub."""

from pathlib import Path
from typing import Any

from ..extras import require

_FOLDER = Path(__file__).parent / "metrics"
METRICS = ("exact_match", "vqa_accuracy", "anls", "relaxed_accuracy")


def load_metric(name: str, **options: Any) -> Any:
    """
    One of `METRICS` as an `evaluate.Metric`; `evaluate.load` with the path of its file gives the same.

    ```python
    load_metric("anls").compute(predictions=["12 May"], references=[["12 May", "May 12"]])  # {"anls": 1.0}
    ```

    Args:
        name: of the metric. All but `"exact_match"` take a list of references per prediction.
        **options: for `evaluate.load`.

    Raises:
        ValueError: if there is no metric of this name.
        MissingLibraryError: if `evaluate` is not installed.
    """
    if name not in METRICS:
        raise ValueError(f"Unknown metric {name!r}; known are {', '.join(METRICS)}.")
    require(["evaluate"], "evaluation")
    import evaluate

    return evaluate.load(str(_FOLDER / f"{name}.py"), **options)
