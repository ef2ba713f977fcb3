# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Converted encoders on disk: found by what they were made of, and used only as they were written."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..modeling_fastvithd import FastViTHDModel
from .fingerprints import fingerprint

_FORMAT = "2"  # of the files, and of what conversion makes of an encoder
_PARTIAL = ".partial-"  # folders with files that are being written
_ABANDONED = 3600  # seconds after which no process still writes to such a folder


@cache
def openvino_core() -> Any:
    """
    The one `openvino.Core` of this process.

    Its CPU plug-in gives the thread that first compiles with it a stack for signals, and frees that stack with the
    core. Were the last reference dropped in another thread, the next signal that Python handles in the first one
    (Ctrl-C, or the end of a child beside PyTorch's data loaders) would end the process (seen with 2026.4).
    """
    import openvino

    return openvino.Core()


class ConvertedEncoderFiles:
    """
    `encoder-….xml` (the graph), `.bin` (the weights) and `.json` (their digests) in one folder.

    Several processes may read and write the same encoder at once: what does not fit together is written again. A model
    that was read needs the object that read it, which keeps the mapped weights.

    Args:
        folder: made when there is something to write.
        encoder: in the inference form.
        calibration_pixels: `(images, channels, height, width)`, or `None` in floating point.
    """

    def __init__(self, folder: Path, encoder: FastViTHDModel, calibration_pixels: torch.Tensor | None):
        self.folder = folder
        self.name = f"encoder-{_fingerprint(encoder, calibration_pixels)}"
        self.weights: np.ndarray | None = None  # OpenVINO keeps no reference to them

    def _paths(self, folder: Path) -> tuple[Path, Path, Path]:
        graph, weights, digests = (folder / f"{self.name}{suffix}" for suffix in (".xml", ".bin", ".json"))
        return graph, weights, digests

    def read(self) -> Any | None:
        """The `openvino.Model`; `None` where there is none, or its files are not those that were written."""
        return self._read(self.folder)

    def _read(self, folder: Path) -> Any | None:
        import openvino

        graph_path, weights_path, digests_path = self._paths(folder)
        try:
            digests = json.loads(digests_path.read_bytes())
            graph = graph_path.read_bytes()
            weights = np.memmap(weights_path, np.uint8, mode="c")  # OpenVINO wants a writeable one, and writes nothing
        except (OSError, ValueError):  # the latter of empty files, and of what is no JSON
            return None
        if digests != _digests(graph, weights):
            return None
        self.weights = weights
        return openvino_core().read_model(graph, openvino.Tensor(weights, shared_memory=True))  # what was digested

    def write(self, convert: Callable[[], Any]) -> Any:
        """
        Convert, keep the result on disk, and return it as the next process will read it.

        Raises:
            OSError: if the folder cannot be written to, before anything is converted, or is full.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.folder))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            model = convert()
            try:
                self._write(model, partial)
            except (OSError, RuntimeError) as error:  # OpenVINO's streams raise the latter
                raise self._unwritable(error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        written = self.read()
        if written is None:  # another process writes the same encoder at this moment
            return model
        return written

    def _write(self, model: Any, partial: Path) -> None:
        import openvino

        graph, weights, digests = self._paths(partial)
        openvino.save_model(model, graph, compress_to_fp16=False)
        digests.write_text(json.dumps(_digests(graph.read_bytes(), np.memmap(weights, np.uint8, mode="r"))))
        if self._read(partial) is None:
            raise OSError("what was written does not read back")
        for source, target in zip(self._paths(partial), self._paths(self.folder)):
            os.replace(source, target)

    def _remove_abandoned(self) -> None:
        for partial in self.folder.glob(f"{_PARTIAL}*"):
            try:
                if time.time() - partial.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(partial, ignore_errors=True)
            except FileNotFoundError:  # its process was faster
                continue

    def _unwritable(self, error: Exception) -> OSError:
        reason = " ".join(str(error).split())  # OpenVINO's has several lines
        return OSError(
            f"The converted encoder cannot be kept in {self.folder}: {reason}. Make room or give write access there, "
            "or name another folder, `optimize_for_inference(model, cache_dir=...)`. It takes 4 bytes per weight."
        )


def _digests(graph: bytes, weights: np.ndarray) -> dict[str, str]:
    return {"graph": hashlib.sha256(graph).hexdigest(), "weights": hashlib.sha256(weights.data).hexdigest()}


def _fingerprint(encoder: FastViTHDModel, calibration_pixels: torch.Tensor | None) -> str:
    """Of all that a converted encoder depends on."""
    versions = {name: metadata.version(name) for name in ("openvino", "torch", "transformers-fastvlm")}
    if calibration_pixels is not None:
        versions["nncf"] = metadata.version("nncf")
    others = [] if calibration_pixels is None else [calibration_pixels]
    return fingerprint([_FORMAT, versions, encoder.config.to_dict()], encoder, *others)
