# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the formats of other programs and runtimes, each verified against the model."""

from .configuration import TARGETS, ExportSettings
from .errors import ExportError
from .exporting import Exported, export
from .onnx_runtime import load_onnx
from .openvino_runtime import load_openvino

__all__ = ["TARGETS", "ExportError", "ExportSettings", "Exported", "export", "load_onnx", "load_openvino"]
