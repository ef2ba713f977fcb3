# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How well a model answers evaluation rows, while it trains: as a metric beside the loss, and in a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processing_fastvlm import FastVLMProcessor
from ..programs.files import write_text
from .processes import process_state
from .row_questions import MAX_NEW_TOKENS, RowAnswer, answer_questions, read_question
from .rows import RowFormat

if TYPE_CHECKING:
    from rich.table import Table

_ROWS_SHOWN = 5
_CHARACTERS_SHOWN = 60

Score = Callable[[Sequence[RowAnswer]], float]


@dataclass(frozen=True)
class AnswerEvaluation:
    """
    Asks a model the last question of evaluation rows.

    Args:
        metric: its name in logs.
        score: of the answers to all rows.
        rows: with an assistant's turn, by index.
        processor: the model's.
        row_format: how rows are read.
        batch_size: questions at a time, per process.
        max_new_tokens: of an answer.
        limit: rows that are asked at each evaluation of a training, the first ones; `None` for all.
    """

    metric: str
    score: Score
    rows: Sequence[Mapping[str, Any]]
    processor: FastVLMProcessor
    row_format: RowFormat
    batch_size: int = 8
    max_new_tokens: int = MAX_NEW_TOKENS
    limit: int | None = None

    def answers(self, model: Any, limit: int | None = None) -> list[RowAnswer]:
        """
        The answers to the first `limit` rows, by default to all. For all processes to call: each answers its share,
        and gets all of them.

        Args:
            model: as `answer_questions` takes it; not a wrapper for several processes.
        """
        from accelerate.utils import gather_object

        state = process_state()
        count = len(self.rows) if limit is None else min(limit, len(self.rows))
        per_process = -(-count // state.num_processes)
        # Where weights are shared out, all processes must go through the model as often: the last rows come twice.
        mine = [min(state.process_index * per_process + offset, count - 1) for offset in range(per_process)]
        found: list[tuple[int, RowAnswer]] = []
        for start in range(0, per_process, self.batch_size):
            indices = mine[start : start + self.batch_size]
            token = self.processor.image_token
            questions = [read_question(self.rows[index], self.row_format, token, index) for index in indices]
            found += zip(indices, answer_questions(model, self.processor, questions, self.max_new_tokens))
        return [answer for _, answer in sorted(dict(gather_object(found)).items())]

    def measure(self, model: Any) -> tuple[float, list[RowAnswer]]:
        """The score of the first `limit` rows, and their answers."""
        answers = self.answers(model, self.limit)
        return self.score(answers), answers


class EvaluatesAnswers:
    """
    In front of `Trainer` or one of its subclasses: its evaluations have the metric of an `AnswerEvaluation`, too.

    It is logged with the loss, to whatever `report_to` names, and `metric_for_best_model` may name it.
    """

    answer_evaluation: AnswerEvaluation | None = None
    last_answers: list[RowAnswer]  # of the last evaluation

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        trainer: Any = super()
        output = trainer.evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        evaluation = self.answer_evaluation
        if evaluation is not None:
            unwrapped = self.accelerator.unwrap_model(self.model)  # type: ignore[attr-defined]
            value, self.last_answers = evaluation.measure(unwrapped)
            output.metrics[f"{metric_key_prefix}_{evaluation.metric}"] = value
            if process_state().is_main_process:
                step = self.state.global_step  # type: ignore[attr-defined]
                _print(answers_table(self.last_answers, f"step {step}: {evaluation.metric} {value:.3f}"))
        return output


def answers_table(answers: Sequence[RowAnswer], title: str) -> Table:
    """A few questions, with what was answered and what is true."""
    from ..programs.tables import markdown_table

    table = markdown_table(("place", "question", "answer", "truth"), ())
    table.title = title
    for each in answers[:_ROWS_SHOWN]:
        table.add_row(each.place, *map(_in_short, (each.question, each.answer, each.truths[0])))
    return table


def _in_short(text: str) -> str:
    from rich.markup import escape

    line = " ".join(text.split())
    return escape(line if len(line) <= _CHARACTERS_SHOWN else f"{line[: _CHARACTERS_SHOWN - 1]}…")


def _print(table: Table) -> None:
    from ..programs.commands import console

    console().print(table)


def write_answers(answers: Sequence[RowAnswer], path: Path) -> None:
    """As JSON objects, one per line."""
    write_text(path, "".join(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in answers))


def read_answers(path: Path) -> list[RowAnswer]:
    """What `write_answers` wrote."""
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [RowAnswer(**{**row, "truths": tuple(row["truths"])}) for row in rows]
