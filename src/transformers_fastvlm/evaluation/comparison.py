# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Results read back, and what changed between two of them, by task and by document."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NUMBER = (int, float)
_KINDS = {"model": str, "settings": dict, "results": list}
_KINDS_OF_A_SCORE = {
    "task": str,
    "dataset_name": str,
    "dataset_id": (str, type(None)),
    "dataset_split": (str, type(None)),
    "metric": str,
    "metric_name": str,
    "value": _NUMBER,
    "stderr": (*_NUMBER, type(None)),
    "samples": int,
}
_KINDS_OF_A_SAMPLE = {"task": str, "document": int, "answers": list}


@dataclass(frozen=True)
class Difference:
    """
    One metric of one task in two evaluations.

    Args:
        task, metric: what was measured.
        before, after: percent.
        changed: documents that were answered otherwise, with both answers; `None` if a file of samples is not there.
    """

    task: str
    metric: str
    before: float
    after: float
    changed: tuple[tuple[int, str, str], ...] | None

    @property
    def points(self) -> float:
        return self.after - self.before


def read_results(path: Path) -> dict[str, Any]:
    """
    What `run_evaluation` wrote.

    Raises:
        ValueError: if the file is not there, or holds something else.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as results: {error}") from error
    if wrong := _wrong(results, _KINDS):
        raise ValueError(f"{path} has no results of `fastvlm evaluate`, but something {wrong}.")
    if not results["results"]:
        raise ValueError(f"{path} has no scores.")
    for row in results["results"]:
        if wrong := _wrong(row, _KINDS_OF_A_SCORE):
            raise ValueError(f"{path} has a score {wrong}.")
    return results


def _wrong(value: Any, kinds: dict[str, Any]) -> str | None:
    """What keeps a value from being an object with these entries, in words; `None` if nothing does."""
    if not isinstance(value, dict):
        return f"that is {_kind(value)}, not an object"
    if missing := [name for name in kinds if name not in value]:
        return f"without {', '.join(missing)}"
    others = [f"{name} is {_kind(value[name])}" for name, kind in kinds.items() if not isinstance(value[name], kind)]
    return f"whose {', '.join(others)}" if others else None


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def read_answers(results_path: Path) -> dict[str, dict[int, Any]] | None:
    """
    Answers by task and document, from the samples beside a file of results; `None` if they are not there.

    Raises:
        ValueError: if a line is no sample; the message names it.
    """
    path = results_path.with_suffix(".samples.jsonl")
    if not path.is_file():
        return None
    answers: dict[str, dict[int, Any]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            sample = json.loads(line)
            wrong = _wrong(sample, _KINDS_OF_A_SAMPLE) or _wrong_answers(sample["answers"])
        except (ValueError, RecursionError) as error:
            wrong = f"that is no JSON ({error})"
        if wrong:
            raise ValueError(f"{path}, line {number}, is no sample of `fastvlm evaluate`, but something {wrong}.")
        answers.setdefault(sample["task"], {})[sample["document"]] = _in_words(sample["answers"])
    return answers


def _wrong_answers(given: list[Any]) -> str | None:
    """Answers are texts, or pairs with a loss first."""
    if all(isinstance(each, str) for each in given):
        return None
    pairs = all(isinstance(each, list) and each and isinstance(each[0], _NUMBER) for each in given)
    return None if pairs else "whose answers are neither texts nor log-likelihoods"


def _in_words(given: list[Any]) -> str:
    """The answer; of log-likelihoods, which are pairs, the number of the one with the least loss."""
    if not given or isinstance(given[0], str):
        return given[0] if given else ""
    return str(min(range(len(given)), key=lambda index: given[index][0]))


def differences(after: Path, before: Path) -> list[Difference]:
    """
    What two evaluations have in common.

    Raises:
        ValueError: if a file cannot be read, or they share no metric.
    """
    scores = {(row["task"], row["metric"]): row["value"] for row in read_results(before)["results"]}
    old, new = read_answers(before), read_answers(after)
    found = []
    for row in read_results(after)["results"]:
        task, metric = row["task"], row["metric"]
        if (task, metric) in scores:
            changed = None if old is None or new is None else _changed(old.get(task, {}), new.get(task, {}))
            found.append(Difference(task, metric, scores[task, metric], row["value"], changed))
    if not found:
        raise ValueError(f"{after} and {before} have no task in common.")
    return found


def _changed(old: dict[int, str], new: dict[int, str]) -> tuple[tuple[int, str, str], ...]:
    shared = sorted(old.keys() & new.keys())
    return tuple((document, old[document], new[document]) for document in shared if old[document] != new[document])


def drops(found: Iterable[Difference], tolerance: float) -> list[str]:
    """The metrics that fell by more than `tolerance` points, in words."""
    return [
        f"{each.task}, {each.metric}: {each.before:.1f} % before, {each.after:.1f} % now"
        for each in found
        if each.points < -tolerance
    ]
