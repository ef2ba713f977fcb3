# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Scores on rows of one's own, read as training reads them, without a task's definition."""

import math
from pathlib import Path
from statistics import stdev
from typing import Any

from ..extras import require
from ..inference import load
from ..training import AnswerEvaluation, DataArguments, prepare_dataset
from ..training.processes import process_state
from .configuration import RowEvaluationConfig
from .known_tasks import METRIC_NAMES
from .result_files import results_record, write_results
from .row_scores import row_score


def evaluate_rows(config: RowEvaluationConfig) -> dict[str, Any] | None:
    """
    Ask a checkpoint the last question of each row, score the answers, and write `results.json` and the answers.

    Under `accelerate launch`, every process answers its share of the rows.

    Returns:
        what `results.json` holds, in the form of `run_evaluation`; `None` in all processes but the first.

    Raises:
        MissingLibraryError: if a library is not installed.
        FileNotFoundError, ValueError: if the rows cannot be read.
        ImportError, OSError, ValueError: as `load` does.
    """
    require(["accelerate", "datasets", "evaluate"], "evaluation")
    score = row_score(config.metric)
    state = process_state()
    model, processor = load(config.model, config.device or str(state.device))
    data = DataArguments(
        config.data,
        split=config.split,
        image_root=config.image_root,
        layout=config.layout,
        max_samples=config.limit,
        faulty_rows=config.faulty_rows,
    )
    rows, report = prepare_dataset(data.load(), processor, data.row_format, data.faulty_rows)
    evaluation = AnswerEvaluation(
        config.metric, score, rows, processor, data.row_format, config.batch_size, config.max_new_tokens
    )
    answers = evaluation.answers(model)
    if not state.is_main_process:
        return None
    scores = [score([each]) for each in answers]
    is_local = Path(config.data).exists()
    name = Path(config.data).stem if is_local else config.data
    row = {
        "task": name,
        "dataset_name": name,
        "dataset_id": None if is_local else config.data,
        "dataset_split": config.split,
        "metric": config.metric,
        "metric_name": METRIC_NAMES.get(config.metric, config.metric.replace("_", " ").capitalize()),
        "value": round(100 * score(answers), 2),
        "stderr": round(100 * stdev(scores) / math.sqrt(len(scores)), 2) if len(scores) > 1 else None,
        "samples": len(answers),
        "unreadable": sum(map(len, report.left_out.values())),
    }
    options = {name: value for name, value in vars(config.model).items() if name != "pretrained"}
    settings = {
        **options,
        "resolution": processor.image_processor.get_resolution(),
        "batch_size": config.batch_size,
        "limit": config.limit,
        "processes": state.num_processes,
        "device": model.device.type,
    }
    results = results_record(config.model.pretrained, config.command, settings, [row])
    samples = [
        {
            "task": name,
            "document": each.place,
            "question": each.question,
            "target": list(each.truths),
            "answers": [each.answer],
            "scores": {config.metric: value},
            "unreadable": False,
        }
        for each, value in zip(answers, scores)
    ]
    write_results(config.output, results, samples)
    return results


__all__ = ["evaluate_rows"]
