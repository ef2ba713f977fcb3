# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One export: the options of `fastvlm export`. Imports nothing that takes time, so that help comes at once."""

from dataclasses import dataclass
from pathlib import Path

TARGETS = ("original", "upstream", "onnx", "openvino")
DEFAULT_PRECISION = "fp32"
PRECISIONS = {"onnx": ("fp32", "fp16", "q8", "q4"), "openvino": ("fp32", "bf16", "int8", "int4")}


@dataclass(frozen=True)
class ExportSettings:
    """
    What is exported, to what, and where.

    Args:
        source: Folder or Hub id of a FastVLM checkpoint in any layout.
        to: Of original (the authors' layout: for their code, their app and mlx-vlm), upstream (transformers' own),
            onnx (ONNX Runtime, and transformers.js in Node and browsers) and openvino.
        output: Folder to write; must not be there yet, or be empty.
        adapter: Folder or Hub id of a PEFT adapter to merge into it.
        precision: Of the decoder: for onnx fp32, fp16, q8 or q4, for openvino fp32, bf16, int8 or int4. Below fp32,
            other weights are stored as float16.
        max_shard_size: Of a weight file, in the first two.

    Raises:
        ValueError: if the target is unknown, it has no such precision, or the folder is not empty or cannot be made.
    """

    source: str
    to: str
    output: Path
    adapter: str | None = None
    precision: str = DEFAULT_PRECISION
    max_shard_size: str = "5GB"

    def __post_init__(self):
        if self.to not in TARGETS:
            raise ValueError(f"Unknown target {self.to!r}; known are {', '.join(TARGETS)}.")
        precisions = PRECISIONS.get(self.to, (DEFAULT_PRECISION,))
        if self.precision not in precisions:
            raise ValueError(f"--precision: --to {self.to} has {', '.join(precisions)}, not {self.precision!r}.")
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise ValueError(f"--output: {self.output} is there already, and not empty.")
        if not self.output.absolute().parent.is_dir():
            raise ValueError(f"--output: there is no folder {self.output.absolute().parent}.")
