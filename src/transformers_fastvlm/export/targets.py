# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What can be exported to: for each format, what fits into it, how it is written, and how it is read again."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict

from ..checkpoint_formats import ORIGINAL, UPSTREAM
from ..extras import installed_versions, require
from ..inference import load_model
from ..processing_fastvlm import FastVLMProcessor
from .answers import Comparison
from .configuration import ExportSettings
from .foreign_layouts import foreign_tensors, require_layout_fits
from .foreign_settings import write_settings
from .manifest import write_manifest
from .onnx_runtime import load_onnx
from .onnx_writing import ONNX_FOLDER, write_onnx
from .openvino_runtime import load_openvino
from .openvino_writing import write_openvino
from .transformers_js import write_transformers_js_settings


class Target(ABC):
    """
    A format.

    Args:
        settings: of the export.
    """

    keeps_dtype = False  # of what is stored; others start from float32

    def __init__(self, settings: ExportSettings):
        self.settings = settings

    def require_fits(self, model: Any) -> None:  # noqa: B027, most formats say everything
        """
        Raises:
            ExportError: if a model has parts that this format cannot say.
        """

    @abstractmethod
    def write(self, model: Any, processor: Any, folder: Path) -> None:
        """Write the files of a model, which may be changed by it, and of its processor."""

    @abstractmethod
    def read(self, folder: Path) -> tuple[Any, Any]:
        """What was written, as a model with `generate`, and its processor."""

    @abstractmethod
    def bound(self, dtype: torch.dtype) -> float:
        """How far scores may be from those of a model in this dtype, as a share of their length."""

    def seal(self, folder: Path, comparison: Comparison) -> None:  # noqa: B027, most formats are whole before
        """Write what belongs into a folder that was found right."""


class LayoutTarget(Target):
    """A checkpoint's tensors under other names, with the settings that readers of those want."""

    keeps_dtype = True
    layouts = {"original": ORIGINAL, "upstream": UPSTREAM}

    @property
    def layout(self) -> str:
        return self.layouts[self.settings.to]

    def require_fits(self, model: Any) -> None:
        require_layout_fits(model.config)

    def write(self, model: Any, processor: Any, folder: Path) -> None:
        tensors, size = foreign_tensors(model, self.layout), self.settings.max_shard_size
        save_torch_state_dict(tensors, folder, max_shard_size=size, metadata={"format": "pt"})
        write_settings(folder, model, processor, self.layout)

    def read(self, folder: Path) -> tuple[Any, Any]:
        return load_model(folder, dtype="auto"), FastVLMProcessor.from_pretrained(folder)

    def bound(self, dtype: torch.dtype) -> float:
        return 16 * torch.finfo(dtype).eps


class RuntimeTarget(Target):
    """
    Files of another runtime, with a manifest.

    `bounds` have room for what rounding to a precision does to full-size seeded weights, whose scores are noise.
    Scores that have nothing to do with each other are 1.4 apart.
    """

    bounds: dict[str, float]
    made_with: tuple[str, ...]
    load: Callable[[Path], Any]

    def read(self, folder: Path) -> tuple[Any, Any]:
        write_manifest(folder, self._facts())
        return self.load(folder), FastVLMProcessor.from_pretrained(folder)

    def bound(self, dtype: torch.dtype) -> float:
        return self.bounds[self.settings.precision]

    def seal(self, folder: Path, comparison: Comparison) -> None:
        write_manifest(folder, {**self._facts(), "difference": comparison.difference})

    def _facts(self) -> dict[str, Any]:
        versions = installed_versions(("transformers-fastvlm", "torch", "transformers", *self.made_with))
        return {"to": self.settings.to, "precision": self.settings.precision, "made_with": versions}


class OnnxTarget(RuntimeTarget):
    """ONNX files as transformers.js runs them."""

    bounds = {"fp32": 1e-3, "fp16": 2e-2, "q8": 0.2, "q4": 0.9}
    made_with = ("onnx", "onnxruntime")
    load = staticmethod(load_onnx)

    def __init__(self, settings: ExportSettings):
        super().__init__(settings)
        require(["onnx", "onnxruntime", "onnxscript"], "export", "An ONNX export")

    def write(self, model: Any, processor: Any, folder: Path) -> None:
        precision = self.settings.precision
        if precision == "fp16":
            model.half().model.vision_tower.float()
        files = list(write_onnx(model, folder / ONNX_FOLDER, precision))
        write_transformers_js_settings(folder, model.float(), processor, files, precision)


class OpenVinoTarget(RuntimeTarget):
    """OpenVINO's files, with the decoder's memory inside."""

    bounds = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.2, "int4": 0.9}
    made_with = ("openvino", "nncf")
    load = staticmethod(load_openvino)

    def __init__(self, settings: ExportSettings):
        super().__init__(settings)
        require(["openvino", "nncf"], "inference", "An OpenVINO export")

    def write(self, model: Any, processor: Any, folder: Path) -> None:
        write_openvino(model, folder, self.settings.precision)
        model.config.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        processor.save_pretrained(folder)


_TARGETS: dict[str, type[Target]] = {
    "original": LayoutTarget,
    "upstream": LayoutTarget,
    "onnx": OnnxTarget,
    "openvino": OpenVinoTarget,
}


def target_of(settings: ExportSettings) -> Target:
    """The format of an export.

    Raises:
        MissingLibraryError: if it needs a library that is not installed.
    """
    return _TARGETS[settings.to](settings)
