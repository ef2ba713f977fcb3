# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Going on after a run was killed."""

import json
import logging
import re
import shutil
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME

logger = logging.getLogger(__name__)


def last_whole_checkpoint(output_dir: str | Path) -> Path | None:
    """
    The newest of `Trainer`'s checkpoints in a folder that was written to its end; `None` if there is none.

    `transformers.trainer_utils.get_last_checkpoint` takes the newest, whole or not, and a run that was killed while it
    wrote cannot go on from that. `Trainer` writes its state file last, so a checkpoint without a readable one is cut
    off; it is removed.
    """
    folders = [path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    for folder in sorted(folders, key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        try:
            json.loads((folder / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            logger.warning("%s was not written to its end; removing it.", folder)
            shutil.rmtree(folder)
            continue
        return folder
    return None
