# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""From any checkpoint or adapter to a folder in another format, which is verified before it is put in its place."""

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
from huggingface_hub import save_torch_state_dict

from ..checkpoint_files import tensor_headers, weight_files
from ..checkpoint_formats import ORIGINAL, UPSTREAM
from ..inference import load_model
from ..inference.fixed_inputs import fixed_inputs, last_logits
from ..processing_fastvlm import FastVLMProcessor
from .configuration import ExportSettings
from .errors import ExportError
from .foreign_layouts import foreign_tensors, require_layout_fits
from .foreign_settings import write_settings

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_LAYOUTS = {"original": ORIGINAL, "upstream": UPSTREAM}


@dataclass(frozen=True)
class Exported:
    """
    Args:
        folder: that was written.
        difference: the largest of the logits' differences, as a share of the largest logit.
        size: bytes on disk.
    """

    folder: Path
    difference: float
    size: int


def export(settings: ExportSettings) -> Exported:
    """
    Write a checkpoint in another format, and verify what was written.

    Raises:
        ExportError: if the model has parts that the format cannot say, before anything is written; or if what was
            written does not give the model's scores. Then nothing is left.
        OSError, ValueError: if the checkpoint cannot be loaded, or the folder not be written.
    """
    model = load_model(settings.source, adapter=settings.adapter, dtype=stored_dtype(settings.source))
    if settings.adapter is not None:
        model = model.merge_and_unload()
    processor: Any = FastVLMProcessor.from_pretrained(settings.source)
    layout = _LAYOUTS[settings.to]
    require_layout_fits(model.config)
    with new_folder(settings.output) as folder:
        tensors = foreign_tensors(model, layout)
        save_torch_state_dict(tensors, folder, max_shard_size=settings.max_shard_size, metadata={"format": "pt"})
        write_settings(folder, model, processor, layout)
        difference = _difference(model, processor, folder)
        size = sum(path.stat().st_size for path in folder.rglob("*"))
    return Exported(settings.output, difference, size)


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


def _difference(model: Any, processor: Any, folder: Path) -> float:
    """Between the model's scores and those of what is in the folder, read as any checkpoint is."""
    read = load_model(folder, dtype=model.dtype)
    inputs = fixed_inputs(FastVLMProcessor.from_pretrained(folder))
    theirs, ours = last_logits(read, inputs).float(), last_logits(model, fixed_inputs(processor)).float()
    largest = float(ours.abs().max())
    difference = float((theirs - ours).abs().max()) / largest
    bound = 16 * torch.finfo(model.dtype).eps
    if not difference <= bound:
        raise ExportError(
            f"What was written differs: its scores by {difference:.1e} of the largest, more than {bound:.1e}."
        )
    return difference


__all__ = ["Exported", "export", "new_folder"]
