# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The vision encoder in OpenVINO, converted once and kept on disk."""

import contextlib
import copy
import hashlib
import json
import logging
import os
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from torch import nn

from ..modeling_fastvithd import FastViTHDModel

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
_FORMAT = "1"  # of the files in the cache
_TRACED_SIZE = 2  # in strides; every larger size follows from the same graph


class OpenVinoEncoder:
    """
    From `(images, 3, height, width)` pixels to `(images, hidden_size, height / stride, width / stride)` features.

    Images run one by one. The first image of each resolution compiles it, which takes about a second.

    Args:
        encoder: in the inference form; its dtype decides the precision.
        cache_dir: where converted encoders are kept; by default beside the Hub's cache.
        calibration_pixels: `(images, 3, height, width)` of the task, to choose the ranges of 8-bit integers by; `None`
            stays in floating point.
    """

    def __init__(
        self,
        encoder: FastViTHDModel,
        cache_dir: Path | None = None,
        calibration_pixels: torch.Tensor | None = None,
    ):
        import openvino

        self.core = openvino.Core()
        self.dtype = encoder.dtype
        folder = cache_dir or Path(HF_HOME) / "transformers-fastvlm"
        self.path = folder / f"encoder-{_fingerprint(encoder, calibration_pixels)}.xml"
        self.was_cached = self.path.is_file()
        if not self.was_cached:
            _write_whole(_convert(encoder, calibration_pixels), self.path)
        self.requests: dict[tuple[int, ...], Any] = {}
        self.encoder, self.weights = encoder, _identity(encoder)

    def __deepcopy__(self, memo: dict) -> "OpenVinoEncoder":
        return self

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Raises:
            RuntimeError: if the encoder's weights have changed since.
        """
        if _identity(self.encoder) != self.weights:
            raise RuntimeError("The encoder has changed since `optimize_for_inference`: call that again.")
        features = [torch.from_numpy(self._run(image)) for image in pixel_values.float().split(1)]
        return torch.cat(features).to(self.dtype)

    def _run(self, image: torch.Tensor) -> Any:
        shape = tuple(image.shape)
        if shape not in self.requests:
            self.requests[shape] = self._compile(shape)
        request = self.requests[shape]
        request.infer({0: image.contiguous().numpy()})
        return request.get_output_tensor(0).data.copy()

    def _compile(self, shape: tuple[int, ...]) -> Any:
        model = self.core.read_model(self.path)
        model.reshape(list(shape))
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self.dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return self.core.compile_model(model, "CPU", options).create_infer_request()


def _identity(encoder: FastViTHDModel) -> list[tuple[int, int]]:
    """Changes as soon as a weight is written to or replaced, and takes no time."""
    return [(weight.data_ptr(), weight._version) for weight in encoder.parameters()]


def _fingerprint(encoder: FastViTHDModel, calibration_pixels: torch.Tensor | None) -> str:
    """Of all that a converted encoder depends on."""
    versions = {name: metadata.version(name) for name in ("openvino", "torch", "transformers-fastvlm")}
    if calibration_pixels is not None:
        versions["nncf"] = metadata.version("nncf")
    described = json.dumps([_FORMAT, versions, encoder.config.to_dict()], sort_keys=True, default=str)
    digest = hashlib.sha256(described.encode())
    for tensor in encoder.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    if calibration_pixels is not None:
        digest.update(calibration_pixels.float().contiguous().numpy().data)
    return digest.hexdigest()[:32]


class FeaturesAlone(nn.Module):
    """An encoder with one output, the features that FastVLM reads, as other runtimes want it."""

    def __init__(self, encoder: FastViTHDModel):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.encoder(pixel_values).last_hidden_state


def _convert(encoder: FastViTHDModel, calibration_pixels: torch.Tensor | None) -> Any:
    import openvino

    plain = copy.deepcopy(encoder).float().cpu().eval()
    plain.runtime = None
    channels, side = encoder.config.num_channels, _TRACED_SIZE * encoder.config.stride
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every check of a shape
        model = openvino.convert_model(
            FeaturesAlone(plain), example_input=torch.rand(2, channels, side, side), input=[(-1, channels, -1, -1)]
        )
    if calibration_pixels is None:
        return model
    return _quantize(model, encoder, calibration_pixels)


def _quantize(model: Any, encoder: FastViTHDModel, calibration_pixels: torch.Tensor) -> Any:
    """8-bit stages but for the last two, which with the stem and the final convolution stay as they are.

    These are a fifth of FastViTHD's work and all of the loss: with them, the bundled checkpoint forgets how to count.
    """
    import nncf

    last = len(encoder.config.depths) - 1
    parts = "stem", "final_conv", rf"stages\.{last - 1}", rf"stages\.{last}"
    images = [image.float().numpy() for image in calibration_pixels.split(1)]
    nncf.set_log_level(logging.ERROR)  # it lists every operation that is left out
    with contextlib.redirect_stdout(sys.stderr):  # it shows its progress
        return nncf.quantize(
            model,
            nncf.Dataset(images),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(patterns=[rf".*encoder\.{part}\..*" for part in parts]),
        )


def _write_whole(model: Any, path: Path) -> None:
    """Write the model's two files so that no reader ever sees a part of them."""
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        openvino.save_model(model, written, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):  # the one that is looked for comes last
            os.replace(written.with_suffix(suffix), path.with_suffix(suffix))
