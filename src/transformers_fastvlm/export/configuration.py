# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One export: the options of `fastvlm export`. Imports nothing that takes time, so that help comes at once."""

from dataclasses import dataclass
from pathlib import Path

TARGETS = ("original", "upstream")


@dataclass(frozen=True)
class ExportSettings:
    """
    What is exported, to what, and where.

    Args:
        source: Folder or Hub id of a FastVLM checkpoint in any layout.
        to: Of original (the authors' layout: for their code, their app and mlx-vlm) and upstream (transformers' own).
        output: Folder to write; must not be there yet, or be empty.
        adapter: Folder or Hub id of a PEFT adapter to merge into it.
        max_shard_size: Of a weight file.

    Raises:
        ValueError: if the target is unknown, or the folder is not empty or cannot be made.
    """

    source: str
    to: str
    output: Path
    adapter: str | None = None
    max_shard_size: str = "5GB"

    def __post_init__(self):
        if self.to not in TARGETS:
            raise ValueError(f"Unknown target {self.to!r}; known are {', '.join(TARGETS)}.")
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise ValueError(f"--output: {self.output} is there already, and not empty.")
        if not self.output.absolute().parent.is_dir():
            raise ValueError(f"--output: there is no folder {self.output.absolute().parent}.")
