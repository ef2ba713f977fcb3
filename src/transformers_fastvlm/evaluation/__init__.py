# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How good a checkpoint is: the paper's benchmarks through lmms-eval, and their metrics for scripts of one's own."""

from ..extras import MissingLibraryError
from .configuration import EvaluationConfig
from .metric_loading import METRICS, load_metric
from .runner import EvaluationError, run_evaluation

__all__ = [
    "METRICS",
    "EvaluationConfig",
    "EvaluationError",
    "MissingLibraryError",
    "load_metric",
    "run_evaluation",
]
