# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The folder that becomes the repository."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

from checkpoint_source import CheckpointSource
from licences import Licence
from model_card import write_model_card
from publish_settings import PublishError, PublishSettings
from remote_code import write_remote_code


def write_repository(
    folder: Path, model: Any, processor: Any, source: CheckpointSource, settings: PublishSettings, licence: Licence
) -> None:
    """
    Write everything that is uploaded: weights, configuration, processor, code, licence and card.

    Args:
        folder: an empty folder, or one to be made.
        model: what is published; a `PeftModel` for an adapter.

    Raises:
        PublishError: if the disk is, or gets, full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not settings.adapter:
        _require_space(folder, model)
    try:
        if settings.adapter:
            _write_adapter(folder, model, settings, source)
            processor.save_pretrained(folder)
        else:
            model.save_pretrained(folder, max_shard_size=settings.max_shard_size)
            processor.save_pretrained(folder)
            _forget_code(folder)
            if settings.remote_code:
                write_remote_code(folder)
        licence.write(folder)
        write_model_card(folder, source, settings, licence)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PublishError(f"The disk of {folder} is full. Nothing was uploaded.") from error
        raise


def _require_space(folder: Path, model: Any) -> None:
    """The folder, and the download that is compared with it, have to fit."""
    needed = 2 * model.get_memory_footprint() + 2**26
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PublishError(
            f"The repository and its download for comparison need {needed / 2**30:.1f} GiB, but the disk of {folder} "
            f"has {free / 2**30:.1f} GiB free. `--folder` takes another one."
        )


def _write_adapter(folder: Path, model: Any, settings: PublishSettings, source: CheckpointSource) -> None:
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = settings.base_model or source.model
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _forget_code(folder: Path) -> None:
    """Leave out references to code files that the source had, or that are to be written anew."""
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for part in (content, content.get("vision_config"), content.get("image_processor")):
            if isinstance(part, dict) and part.pop("auto_map", None) is not None:
                path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in folder.glob("*.py"):
        path.unlink()
