# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What `run_encoder_benchmark` times: our encoder, the same in other runtimes, and whatever else it is handed."""

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..extras import require
from ..inference import optimize_for_inference
from ..inference.openvino_conversion import FeaturesAlone
from ..parts import Part

Encoder = Callable[..., Any]  # pixel_values=(images, 3, height, width) → an output with `last_hidden_state`


@dataclass(frozen=True)
class EncoderSubject:
    """
    An encoder to time beside ours. To go to another process, `build` must be a function that can be imported there,
    or a `partial` of one.

    Args:
        name: in tables.
        build: from our encoder to it, on the same device and in the same dtype.
        requires: modules that it needs beside transformers.
        extra: the extra of this package that installs them.
        same_weights: whether its features are to be ours.
        dtypes: that it runs in; `None` for all.
    """

    name: str
    build: Callable[[Any], Encoder]
    requires: tuple[str, ...] = ()
    extra: str = "inference"
    same_weights: bool = False
    dtypes: tuple[torch.dtype, ...] | None = None

    def require(self) -> None:
        """
        Raises:
            MissingLibraryError: if a module is not installed.
        """
        require(self.requires, self.extra, self.name)


def optimize_for_timing(model: Any, int8: tuple[Part, ...] = ()) -> None:
    """Optimize ours: calibrated with noise, converted anew, and nothing stays on disk once the model is gone."""
    pixels = torch.rand(8, 3, 512, 512, generator=torch.Generator().manual_seed(0)) if int8 else None
    model.converted = tempfile.TemporaryDirectory()
    optimize_for_inference(model, "openvino", int8, pixels, model.converted.name)


def build_openvino(ours: Any, int8: tuple[Part, ...] = ()) -> Encoder:
    """A copy of ours after `optimize_for_inference`."""
    optimized = copy.deepcopy(ours)
    optimize_for_timing(optimized, int8)
    return optimized


class OnnxEncoder:
    """Ours exported to ONNX, in ONNX Runtime."""

    def __init__(self, ours: Any):
        import onnxruntime

        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = torch.get_num_threads()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "encoder.onnx"
        example = torch.rand(1, 3, 2 * ours.config.stride, 2 * ours.config.stride)
        axes = {name: {0: "images", 2: "height", 3: "width"} for name in ("pixel_values", "features")}
        with torch.no_grad():
            torch.onnx.export(
                FeaturesAlone(ours),
                (example,),
                self.path,
                input_names=["pixel_values"],
                output_names=["features"],
                dynamic_axes=axes,
                dynamo=False,
            )
        self.session = onnxruntime.InferenceSession(self.path, self.options, providers=["CPUExecutionProvider"])

    def __call__(self, pixel_values: torch.Tensor) -> Any:
        (features,) = self.session.run(None, {"pixel_values": pixel_values.numpy()})
        return SimpleNamespace(last_hidden_state=torch.from_numpy(features))


ENCODER_WAYS: Mapping[str, EncoderSubject] = {
    subject.name: subject
    for subject in (
        EncoderSubject(
            "ours-openvino",
            build_openvino,
            requires=("openvino",),
            same_weights=True,
            dtypes=(torch.float32, torch.bfloat16),
        ),
        EncoderSubject("ours-int8", partial(build_openvino, int8=("encoder",)), requires=("openvino", "nncf")),
        EncoderSubject(
            "ours-onnxruntime",
            OnnxEncoder,
            requires=("onnx", "onnxruntime"),
            extra="bench",
            same_weights=True,
            dtypes=(torch.float32,),
        ),
    )
}
