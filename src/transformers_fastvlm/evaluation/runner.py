# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of one checkpoint on tasks of lmms-eval, from options to `results.json`."""

import argparse
import difflib
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..extras import require
from .configuration import EvaluationConfig
from .images import blank_for_unreadable, pil_as_it_was
from .known_tasks import KNOWN_TASKS, METRIC_NAMES
from .result_files import results_record, write_results

# Metrics that are files to hand in, not scores.
_NO_SCORES = ("alias", "bypass", "submission")


class EvaluationError(ValueError):
    """A task, its data or the model is not there."""


def run_evaluation(config: EvaluationConfig) -> dict[str, Any] | None:
    """
    Evaluate a checkpoint, write `results.json` and the samples, one per line, and return the results.

    Under `accelerate launch`, every process answers its share of the documents.

    Returns:
        what `results.json` holds; `None` in all processes but the first. Scores are in percent, as are their standard
        errors. A document with an unreadable image counts as answered wrongly, and under `unreadable`.

    Raises:
        MissingLibraryError: if lmms-eval is not installed.
        EvaluationError: if a task is unknown, or its data or the model is not on this machine and cannot be loaded.
    """
    require(["lmms_eval", "accelerate", "datasets"], "evaluation")
    with pil_as_it_was():
        from lmms_eval.evaluator import simple_evaluate
        from lmms_eval.tasks import TaskManager

        from .harness_model import FastVLM

    with blank_for_unreadable():
        tasks = load_tasks(config.tasks, config.include_path)
        try:
            model = FastVLM(
                batch_size=config.batch_size,
                device=config.device,
                answers=str(config.answers_path),
                **asdict(config.model),
            )
        except OSError as error:
            raise EvaluationError(f"Model {config.model.pretrained!r} could not be loaded: {error}") from error
        options = argparse.Namespace(process_with_media=False, output_path=str(config.output.parent))
        found = simple_evaluate(
            model=model,
            tasks=tasks,
            task_manager=TaskManager(include_defaults=False),  # else it reads all definitions again
            limit=config.limit,
            cli_args=options,
        )
    unreadable = _from_all_processes(model.accelerator.num_processes, model.unreadable)
    if found is None:
        return None
    rows, samples = [], []
    for task in tasks:
        lost = {document for name, document in unreadable if name == task.task_name}
        rows += list(task_rows(task, found, lost))
        samples += [_sample(task, sample, lost) for sample in found["samples"][task.task_name]]
    results = results_record(config.model.pretrained, config.command, _settings(config, model), rows)
    write_results(config.output, results, samples)
    return results


def quieten_harness() -> None:
    """Have lmms-eval say nothing but errors, in this whole process."""
    require(["lmms_eval"], "evaluation")
    with pil_as_it_was():
        import lmms_eval.evaluator  # noqa: F401  (what it imports sets the logger up)
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="ERROR", format="{message}")


def load_tasks(names: Iterable[str], include_path: Path | None = None) -> list[Any]:
    """
    lmms-eval's tasks of these names, groups taken apart, with their data.

    Args:
        names: of tasks, groups or tags.
        include_path: a folder with definitions besides lmms-eval's.

    Raises:
        EvaluationError: if a name is unknown, with those like it; or if the data cannot be loaded.
    """
    with pil_as_it_was():
        from lmms_eval.tasks import TaskManager

    options = {"include_path": include_path and str(include_path), "model_name": "fastvlm"}
    manager = TaskManager("ERROR", include_defaults=False, **options)
    if not set(manager.all_tasks).issuperset(names):  # reading lmms-eval's definitions takes seconds
        manager = TaskManager("ERROR", **options)
    tasks = []
    for name in names:
        if name not in manager.all_tasks:
            like = difflib.get_close_matches(name, manager.all_tasks, n=5)
            hint = f" Did you mean {', '.join(like)}?" if like else ""
            raise EvaluationError(f"There is no task {name!r}.{hint} `lmms-eval tasks` lists all of them.")
        try:
            tasks += list(_leaves(manager.load_task_or_group(name)))
        except Exception as error:  # of any library that reads data
            raise EvaluationError(_explained(name, error)) from error
    return tasks


def _leaves(tasks: dict[Any, Any]) -> Iterator[Any]:
    for task in tasks.values():
        if isinstance(task, dict):
            yield from _leaves(task)
        else:
            yield task


def _explained(name: str, error: Exception) -> str:
    # tenacity wraps what failed at every attempt.
    last = getattr(error, "last_attempt", None)
    cause = last.exception() if last is not None else error
    if isinstance(cause, IndexError):
        return f"Task {name!r} has no documents: its data set is empty."
    if isinstance(cause, OSError):
        hint = "it needs the network, or a copy in the local cache (HF_HOME)"
    else:
        hint = "is it whole, and not empty?"
        cause = cause.__cause__ or cause
    return f"The data of task {name!r} could not be loaded; {hint}: {type(cause).__name__}: {cause}"


def task_rows(task: Any, found: dict[str, Any], unreadable: set[int]) -> Iterator[dict[str, Any]]:
    """
    A row of `results.json` per metric of a task.

    Args:
        task: lmms-eval's task.
        found: what lmms-eval returned.
        unreadable: documents with an unreadable image, which count as wrong whatever the task makes of no answer.
    """
    name, samples = task.task_name, found["samples"][task.task_name]
    known = KNOWN_TASKS.get(name)
    metadata = task.config.metadata  # a list of versions in some of lmms-eval's own
    named = metadata.get("dataset_name", name) if isinstance(metadata, dict) else name
    dataset_name = known.dataset_name if known else named
    for key, value in found["results"][name].items():
        metric, _, filter_name = key.partition(",")
        if metric in _NO_SCORES or "_stderr" in metric or not isinstance(value, (int, float)):
            continue
        scored = [sample for sample in samples if metric in sample]
        error = found["results"][name].get(f"{metric}_stderr,{filter_name}")
        scores = [sample[metric] for sample in scored]
        corrected = [as_wrong(s[metric]) if s["doc_id"] in unreadable else s[metric] for s in scored]
        if corrected != scores:  # some tasks guess where there is no answer
            value, error = _aggregate(task, metric, corrected)
        scale = to_percent(value, scores)
        yield {
            "task": name,
            "dataset_name": dataset_name,
            "dataset_id": task.DATASET_PATH if is_hub_id(task.DATASET_PATH) else None,
            "dataset_split": task.config.test_split or task.config.validation_split,
            "metric": metric,
            "metric_name": METRIC_NAMES.get(metric, metric.replace("_", " ").capitalize()),
            "value": round(scale * float(value), 2),
            "stderr": round(scale * error, 2) if isinstance(error, float) else None,
            "samples": len({sample["doc_id"] for sample in scored}),
            "unreadable": len({sample["doc_id"] for sample in scored} & unreadable),
        }


def is_hub_id(path: str) -> bool:
    """Whether a data set's path is one on the Hub, not a folder or one of `datasets`' formats."""
    return path.count("/") == 1 and not Path(path).exists()


def to_percent(value: float, scores: Iterable[Any]) -> int:
    """What makes a metric percent: most of lmms-eval's are fractions, as their documents' scores are; others stay."""
    numbers = [score for score in scores if isinstance(score, (int, float))]
    return 100 if 0 <= value <= 1 and max(numbers, default=1) <= 1 else 1


def _aggregate(task: Any, metric: str, scores: list[Any]) -> tuple[float, float | None]:
    """A metric of a task and its standard error, from the scores of its documents."""
    from lmms_eval.api.metrics import stderr_for_metric

    aggregation = task.aggregation()[metric]
    options = {"args": task.args} if "args" in inspect.signature(aggregation).parameters else {}
    stderr = stderr_for_metric(aggregation, bootstrap_iters=100)
    return aggregation(scores, **options), stderr(scores) if stderr and len(scores) > 1 else None


def as_wrong(score: Any) -> Any:
    """A document's score as it is for a wrong answer: 0, or without the prediction that is compared later."""
    if isinstance(score, (bool, int, float)):
        return 0.0
    if isinstance(score, dict):
        emptied = {"pred": "", "parsed_pred": [""], "prediction": "", "score": 0}
        return {name: emptied.get(name, value) for name, value in score.items()}
    return score


def _sample(task: Any, sample: dict[str, Any], unreadable: set[int]) -> dict[str, Any]:
    """A line of the samples: what was asked, expected and answered, and its scores."""
    metrics = [name for name in task.aggregation() if name in sample and name not in _NO_SCORES]
    lost = sample["doc_id"] in unreadable
    return {
        "task": task.task_name,
        "document": sample["doc_id"],
        "question": sample["arguments"][0] if sample["arguments"] else None,
        "target": sample["target"],
        "answers": [] if lost else sample["filtered_resps"],
        "scores": {name: as_wrong(sample[name]) if lost else sample[name] for name in metrics},
        "unreadable": lost,
    }


def _from_all_processes(count: int, local: set) -> set:
    if count == 1:
        return local
    from torch import distributed

    gathered: list[set] = [set()] * count
    distributed.all_gather_object(gathered, local)
    return set().union(*gathered)


def _settings(config: EvaluationConfig, model: Any) -> dict[str, Any]:
    options = {name: value for name, value in vars(config.model).items() if name != "pretrained"}
    return {
        **options,
        "resolution": model.resolution,
        "batch_size": config.batch_size,
        "limit": config.limit,
        "processes": model.accelerator.num_processes,
        "device": model.device.type,
        "ttft_ms": model.ttft_ms and round(model.ttft_ms, 1),
    }


__all__ = ["EvaluationError", "load_tasks", "run_evaluation"]
