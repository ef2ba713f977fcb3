# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One evaluation: the options of `fastvlm evaluate`. Imports nothing that takes time, so that help comes at once."""

from dataclasses import dataclass, field
from pathlib import Path

from ..inference.model_options import ModelOptions
from ..programs.mistakes import require_device
from .metric_loading import METRICS


@dataclass(frozen=True)
class EvaluationConfig:
    """
    One evaluation.

    Args:
        model: How the checkpoint is loaded.
        tasks: Of lmms-eval's tasks, groups and tags, or of those in `include_path`.
        batch_size: Prompts per call.
        limit: Documents per task, from the first on. [default: all]
        device: cpu, cuda, cuda:1, ... [default: the process's GPU, if there is one]
        output: Where the results go. Answers and samples go beside it; a second run goes on from them.
        include_path: Folder with more task definitions, YAML, as of lmms-eval's option of that name.
        command: What the results say they were made with.

    Raises:
        ValueError: if nothing is to be done, a number is too small, or the device or the folder is not there.
    """

    model: ModelOptions = field(metadata={"option": False})
    tasks: tuple[str, ...]
    batch_size: int = 1
    limit: int | None = None
    device: str | None = None
    output: Path = Path("results.json")
    include_path: Path | None = None
    command: str = field(default="", metadata={"option": False})

    def __post_init__(self):
        if not self.tasks:
            raise ValueError("Name at least one task.")
        if self.batch_size < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError("`batch_size` and `limit` must be at least 1.")
        if self.device is not None:
            require_device(self.device)
        if self.include_path is not None and not self.include_path.is_dir():
            raise ValueError(f"There is no folder {self.include_path} with task definitions.")

    @property
    def answers_path(self) -> Path:
        """Where answers are kept."""
        return self.output.with_suffix(".answers.jsonl")


@dataclass(frozen=True)
class RowEvaluationConfig:
    """
    An evaluation on rows of one's own, without a task's definition.

    Args:
        model: How the checkpoint is loaded.
        data: Rows of one's own in place of tasks: file, folder or Hub id, in any layout that training reads.
        metric: Of exact_match, vqa_accuracy, anls, relaxed_accuracy, for --data.
        split: Of --data.
        image_root: Folder that its images' paths are relative to. [default: the file's]
        layout: It has. [default: every row's own, by its columns]
        max_new_tokens: Of an answer.
        faulty_rows: Stop at rows that cannot be read, or skip them.
        batch_size: Rows per call.
        limit: Rows, from the first on. [default: all]
        device: cpu, cuda, cuda:1, ... [default: the process's GPU, if there is one]
        output: Where the results go.
        command: What the results say they were made with.

    Raises:
        ValueError: if a number is too small, the metric unknown, or the device not there.
    """

    model: ModelOptions = field(metadata={"option": False})
    data: str
    metric: str = METRICS[0]
    split: str = "train"
    image_root: str | None = None
    layout: str | None = None
    max_new_tokens: int = 64
    faulty_rows: str = "stop"
    batch_size: int = 1
    limit: int | None = None
    device: str | None = None
    output: Path = Path("results.json")
    command: str = field(default="", metadata={"option": False})

    def __post_init__(self):
        if self.metric not in METRICS:
            raise ValueError(f"Unknown metric {self.metric!r}; known are {', '.join(METRICS)}.")
        if min(self.batch_size, self.max_new_tokens) < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError("`batch_size`, `max_new_tokens` and `limit` must be at least 1.")
        if self.device is not None:
            require_device(self.device)
