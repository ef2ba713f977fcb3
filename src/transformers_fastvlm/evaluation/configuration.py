# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One evaluation: the options of `fastvlm evaluate`. Imports nothing that takes time, so that help comes at once."""

from dataclasses import dataclass, field
from pathlib import Path

from ..inference.model_options import ModelOptions
from ..programs.mistakes import require_device


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

    @property
    def samples_path(self) -> Path:
        """What was asked and answered, one document per line."""
        return self.output.with_suffix(".samples.jsonl")
