# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Faster answers from a loaded model, for what costs a compilation or changes numbers: `optimize_for_inference`."""

from ..extras import MissingLibraryError
from .linear_layers import Int8Linear, PackedLinear
from .openvino_encoder import OpenVinoEncoder
from .optimize import Optimization, optimize_for_inference

__all__ = [
    "Int8Linear",
    "MissingLibraryError",
    "OpenVinoEncoder",
    "Optimization",
    "PackedLinear",
    "optimize_for_inference",
]
