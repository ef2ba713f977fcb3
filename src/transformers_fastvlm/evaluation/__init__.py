# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How good a checkpoint is: the paper's benchmarks through lmms-eval, and their metrics for scripts of one's own."""

from ..extras import MissingLibraryError
from .answering import ModelOptions, generate_answers, image_embeddings, load, score_continuations, to_messages
from .metric_loading import METRICS, load_metric
from .runner import EvaluationConfig, EvaluationError, run_evaluation

__all__ = [
    "METRICS",
    "EvaluationConfig",
    "EvaluationError",
    "MissingLibraryError",
    "ModelOptions",
    "generate_answers",
    "image_embeddings",
    "load",
    "load_metric",
    "run_evaluation",
    "score_continuations",
    "to_messages",
]
