# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Options of training scripts and commands, as `HfArgumentParser` takes them. Imports nothing that takes time."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .layouts import LAYOUTS, QUESTION, TOO_LONG

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from .rows import RowFormat


def _option(default, text: str):
    return field(default=default, metadata={"help": text})


@dataclass
class DataArguments:
    """Which rows are trained on, and how they are read."""

    dataset: str = field(metadata={"help": "file or folder of rows, or Hub id"})
    split: str = _option("train", "what to train on")
    image_root: str | None = _option(None, "folder that images' paths are relative to; default the file's")
    layout: str | None = _option(None, f"one of {', '.join(LAYOUTS)}; default every row's own, by its columns")
    messages_column: str | None = _option(None, "column with the conversations; default one of the usual names")
    images_column: str | None = _option(None, "column with the images; default one of the usual names")
    question: str = _option(QUESTION, "asked about images that only have a caption")
    allow_urls: bool = _option(False, "fetch images that rows name by address, at every epoch")
    allow_outside: bool = _option(False, "read images outside of --image_root")
    max_samples: int | None = _option(None, "rows that are read, at most")
    max_length: int | None = _option(None, "longest example in tokens, images included")
    too_long: str = _option(TOO_LONG[0], " or ".join(TOO_LONG))
    faulty_rows: str = _option("stop", "stop at rows that cannot be trained on, or skip them")
    streaming: bool = _option(False, "read while training; needs --max_steps")

    def __post_init__(self):
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"`max_samples` must be at least 1, not {self.max_samples}.")

    @property
    def row_format(self) -> "RowFormat":
        """
        Raises:
            ValueError: if a value is out of its range.
        """
        from .row_images import ImageAccess
        from .rows import RowFormat

        return RowFormat(
            messages_column=self.messages_column,
            images_column=self.images_column,
            layout=self.layout,
            question=self.question,
            access=ImageAccess(self.allow_urls, self.allow_outside),
            max_length=self.max_length,
            too_long=self.too_long,
        )

    def load(self) -> "Dataset | IterableDataset":
        """
        The rows, not checked yet.

        Raises:
            FileNotFoundError, ValueError: as `load_chat_dataset` does.
        """
        from .data import load_chat_dataset

        rows = load_chat_dataset(self.dataset, self.split, self.streaming, self.image_root)
        if self.max_samples is None:
            return rows
        return rows.take(self.max_samples) if self.streaming else rows.take(min(self.max_samples, len(rows)))
