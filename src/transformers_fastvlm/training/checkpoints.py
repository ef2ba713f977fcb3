# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Going on after a run was killed."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processes import process_state

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

logger = logging.getLogger(__name__)
# `Trainer` writes it last. `transformers.trainer` has the name, and would bring PEFT and `datasets` along.
_STATE_FILE = "trainer_state.json"


def last_whole_checkpoint(output_dir: str | Path) -> Path | None:
    """
    The newest of `Trainer`'s checkpoints in a folder that was written to its end; `None` if there is none.

    `transformers.trainer_utils.get_last_checkpoint` takes the newest, whole or not, and a run that was killed while it
    wrote cannot go on from that. `Trainer` writes its state file last, so a checkpoint without a readable one is cut
    off.
    """
    return next((folder for folder in _newest_first(output_dir) if _is_whole(folder)), None)


def remove_cut_off_checkpoints(output_dir: str | Path) -> None:
    """
    Remove the checkpoints that a kill cut off, before what is left in them mixes with what is written there next.

    For all processes of a run to call: the first one removes, the others wait for it.
    """
    state = process_state()
    if state.is_main_process:
        for folder in _newest_first(output_dir):
            if not _is_whole(folder):
                logger.warning("%s was not written to its end; removing it.", folder)
                shutil.rmtree(folder)
    state.wait_for_everyone()


def train(trainer: Trainer, resume: bool = False) -> bool:
    """
    Train, from the beginning or from the last whole checkpoint in the trainer's output folder.

    Args:
        resume: go on from there; cut-off checkpoints are removed.

    Returns:
        `False` if the run had done all of its steps before. Then none is trained, and the model has the weights that
        training would leave: the last checkpoint's, or with `load_best_model_at_end` the best one's.
    """
    folder: Any = trainer.args.output_dir
    if resume:
        remove_cut_off_checkpoints(folder)
    checkpoint = last_whole_checkpoint(folder) if resume else None
    stop = _stop_where_nothing_is_left()
    trainer.add_callback(stop)
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except _NothingLeftError:
        trainer.is_in_train = False
        if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
            trainer._load_best_model()
        if trainer.is_world_process_zero():
            logger.warning(
                "All %d steps were trained before; there is nothing left to train.", trainer.state.max_steps
            )
        return False
    finally:
        trainer.remove_callback(stop)
    return True


class _NothingLeftError(Exception):
    """All steps have been trained."""


def _stop_where_nothing_is_left() -> TrainerCallback:
    """`Trainer` looks at whether it is done after a step alone, so a run that is done would train one more."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if 0 < state.max_steps <= state.global_step:
                raise _NothingLeftError

    return Stop()


def _newest_first(output_dir: str | Path) -> list[Path]:
    folders = [path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(folders, key=lambda path: int(path.name.partition("-")[2]), reverse=True)


def _is_whole(folder: Path) -> bool:
    try:
        state = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(state, dict)
