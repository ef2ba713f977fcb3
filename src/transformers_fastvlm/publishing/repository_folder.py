# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The folder that becomes the repository."""

import errno
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .card_material import CardMaterial
from .checkpoint_source import CheckpointSource
from .declared_fields import keep_declared
from .errors import PublishError, in_one_line
from .folder_files import read_object, write_json
from .licences import Licence
from .model_card import write_model_card
from .publish_settings import PublishSettings
from .remote_code import write_remote_code
from .stored_tensors import store_as

# Where transformers notes in which files a class is.
_WITH_CODE = ("config.json", "processor_config.json", "tokenizer_config.json")


def write_repository(
    folder: Path,
    model: Any,
    processor: Any,
    source: CheckpointSource,
    settings: PublishSettings,
    licence: Licence,
    material: CardMaterial,
) -> list[str]:
    """
    Write everything that is uploaded: weights, configuration, processor, code, licence and card.

    Args:
        folder: an empty folder, or one to be made.
        model: what is published; a `PeftModel` for an adapter. Its weights may be of other dtypes afterwards.

    Returns:
        entries of the source's configuration files that were left out, since nothing declares them.

    Raises:
        PublishError: if the disk is, or gets, full, or cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not settings.adapter:
        _require_space(folder, model)
    try:
        if settings.adapter:
            _write_adapter(folder, model, settings, source)
            processor.save_pretrained(folder)
            left_out = keep_declared(folder, None, processor)
        else:
            _write_model(folder, model, source, settings)
            processor.save_pretrained(folder)
            _forget_code(folder)
            left_out = keep_declared(folder, model.config, processor)
            if settings.remote_code:
                write_remote_code(folder)
        licence.write(folder)
        write_model_card(folder, source, settings, licence, material)
        return left_out
    except (OSError, SafetensorError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise PublishError(f"The disk of {folder} is full. Nothing was uploaded.") from error
        raise PublishError(f"{folder} cannot be written: {in_one_line(error)} Nothing was uploaded.") from error


def _require_space(folder: Path, model: Any) -> None:
    """The folder, and the download that is compared with it, have to fit."""
    needed = 2 * model.get_memory_footprint() + 2**26
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PublishError(
            f"The repository and its download for comparison need {needed / 2**30:.1f} GiB, but the disk of {folder} "
            f"has {free / 2**30:.1f} GiB free. `--folder` takes another one."
        )


def _write_model(folder: Path, model: Any, source: CheckpointSource, settings: PublishSettings) -> None:
    """Without a variant, every tensor in the dtype that the source has it in, and readers load one that holds all."""
    dtype = str(model.dtype).removeprefix("torch.")
    if settings.variant is None and source.adapter is None:
        store_as(model, source.tensors)
    # transformers cannot undo its conversions of weights that it has read quantized; ours have their own names anyway.
    model.save_pretrained(folder, max_shard_size=settings.max_shard_size)
    path = folder / "config.json"
    write_json(path, read_object(path) | {"dtype": dtype})


def _write_adapter(folder: Path, model: Any, settings: PublishSettings, source: CheckpointSource) -> None:
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form
    path = folder / "adapter_config.json"
    write_json(path, read_object(path) | {"base_model_name_or_path": settings.base_model or source.model.location})


def _forget_code(folder: Path) -> None:
    """Leave out references to code files that the source had, or that are to be written anew."""
    for path in (folder / name for name in _WITH_CODE):
        content = read_object(path)
        parts = (content, content.get("vision_config", {}), content.get("image_processor", {}))
        if [part.pop("auto_map") for part in parts if "auto_map" in part]:
            write_json(path, content)
    for path in folder.glob("*.py"):
        path.unlink()
