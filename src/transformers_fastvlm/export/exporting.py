# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""From any checkpoint or adapter to a folder in another format, which is verified before it is put in its place."""

import gc
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoint_files import tensor_headers, weight_files
from ..inference import load_model
from ..processing_fastvlm import FastVLMProcessor
from .answers import Comparison, answers_of, compare
from .configuration import ExportSettings
from .errors import ExportError
from .targets import target_of

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True)
class Exported:
    """
    Args:
        folder: that was written.
        comparison: of what is in it with the model.
        bound: that the comparison's difference was held against.
        size: bytes on disk.
    """

    folder: Path
    comparison: Comparison
    bound: float
    size: int


def export(settings: ExportSettings) -> Exported:
    """
    Write a checkpoint in another format, and verify what was written.

    Raises:
        ExportError: if the model has parts that the format cannot say, before anything is written; or if what was
            written does not give the model's scores. Then nothing is left.
        MissingLibraryError: if the format needs a library that is not installed.
        OSError, ValueError: if the checkpoint cannot be loaded, or the folder not be written.
    """
    target = target_of(settings)
    dtype = stored_dtype(settings.source) if target.keeps_dtype else torch.float32
    model = load_model(settings.source, adapter=settings.adapter, dtype=dtype)
    if getattr(model.config, "quantization_config", None) is not None:
        raise ExportError("Its weights are quantized: export what they were made from.")
    if settings.adapter is not None:
        model = model.merge_and_unload()
    processor: Any = FastVLMProcessor.from_pretrained(settings.source)
    target.require_fits(model)
    expected = answers_of(model, processor)
    bound = target.bound(model.dtype)
    with new_folder(settings.output) as folder:
        target.write(model, processor, folder)
        del model
        gc.collect()  # so that it does not take memory beside what is read again
        read, reader = target.read(folder)
        comparison = compare(answers_of(read, reader), expected, bound)
        del read
        target.seal(folder, comparison)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Exported(settings.output, comparison, bound, size)


def stored_dtype(source: str) -> torch.dtype | str:
    """The dtype of the decoder in a checkpoint's files, whatever its configuration says; "auto" for any other."""
    headers = [tensor_headers(path) for path in weight_files(source)]
    stored = Counter(
        entry["dtype"] for header in headers for name, entry in header.items() if "vision_tower" not in name
    )
    return _DTYPES.get(stored.most_common(1)[0][0] if stored else "", "auto")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A folder that becomes `output` at the end of the context; left by an exception, nothing is left of it."""
    output = output.absolute()
    part = Path(tempfile.mkdtemp(prefix=f"{output.name}.part-", dir=output.parent))
    try:
        yield part
        part.chmod(0o755)
        os.replace(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


__all__ = ["Exported", "export", "new_folder"]
