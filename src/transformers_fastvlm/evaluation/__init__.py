# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How good a checkpoint is: the paper's benchmarks through lmms-eval, and their metrics for scripts of one's own."""

from ..extras import MissingLibraryError
from .configuration import EvaluationConfig, RowEvaluationConfig
from .metric_loading import METRICS, load_metric
from .own_rows import evaluate_rows
from .runner import EvaluationError, run_evaluation

__all__ = [
    "METRICS",
    "EvaluationConfig",
    "EvaluationError",
    "MissingLibraryError",
    "RowEvaluationConfig",
    "evaluate_rows",
    "load_metric",
    "run_evaluation",
]
