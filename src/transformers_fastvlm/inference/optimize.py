# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One call that makes a loaded model answer sooner."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..extras import is_installed, require
from ..modeling_fastvithd import FastViTHDModel
from ..parts import Part
from .decoder import optimize_decoder
from .linear_layers import int8_is_fast
from .openvino_encoder import COMPILED_SIZES, PRECISIONS, OpenVinoEncoder

Encoder = Literal["eager", "openvino", "compile"]


@dataclass(frozen=True)
class Optimization:
    """
    What `optimize_for_inference` did.

    Args:
        encoder: what runs the encoder now.
        int8: the parts that compute in 8-bit integers.
        seconds: what it took.
        was_cached: whether the converted encoder was found on disk; `None` where nothing is converted.
    """

    encoder: Encoder
    int8: tuple[Part, ...]
    seconds: float
    was_cached: bool | None = None


def optimize_for_inference(
    model: Any,
    encoder: Encoder | None = None,
    int8: Collection[Part] = (),
    calibration_pixels: torch.Tensor | None = None,
    cache_dir: str | Path | None = None,
    compiled_sizes: int = COMPILED_SIZES,
) -> Optimization:
    """
    Make a FastVLM, or its encoder alone, faster, in place, for answering only.

    `generate`, streaming, batches and merged adapters work as before. What is asked of the encoder beyond its features
    (gradients, `output_hidden_states`, `output_attentions`, training) runs as before, at the old speed. On CPUs the
    linear layers of projector and decoder are laid out for the processor, and the decoder's attention in bfloat16 runs
    as products of blocks: the same numbers up to rounding, in well under a second. It has no gradients any more.

    Args:
        model: `FastVLMForConditionalGeneration`, `FastVLMModel` or `FastViTHDModel`, on its device already. Merge
            adapters first. Multi-branch encoders are reparameterized.
        encoder: what runs it. `"openvino"` (CPUs) converts it once, in some seconds, to files of about 500 MB for
            FastViTHD, which later processes find. The first image of a resolution then costs some seconds: it is
            compiled, and an example of that resolution is compared with PyTorch's features. Where they are further
            apart than the dtype explains, PyTorch goes on to encode images of that resolution, and a warning says so.
            `"compile"` is `torch.compile`; its first image of each shape costs up to a minute, less where PyTorch's
            own cache has it. `"eager"` leaves it as it is.
            By default `"compile"` on GPUs, `"openvino"` on CPUs where it is installed and computes in the encoder's
            dtype, else `"eager"`.
        int8: parts that compute in 8-bit integers, which changes numbers: `"encoder"` (OpenVINO, calibrated by NNCF)
            and `"decoder"` (its linear layers but the head, ranges by token). On CPUs with VNNI instructions. Such
            decoders cannot be saved.
        calibration_pixels: `(images, 3, height, width)`, `pixel_values` of a few images of the task, for `"encoder"`.
        cache_dir: where converted encoders are kept; by default beside the Hub's cache.
        compiled_sizes: how many image sizes OpenVINO keeps compiled; with one more, it forgets the one that was not
            used for longest.

    Returns:
        what was done.

    Raises:
        ValueError: if an option does not fit the model or the machine.
        MissingLibraryError: if a library is not installed.
        OSError: if a converted encoder cannot be written to `cache_dir`.
    """
    start = time.perf_counter()
    if any(hasattr(module, "base_layer") for module in model.modules()):
        raise ValueError("The model has adapters: merge them first, `model = model.merge_and_unload()`.")
    device = next(model.parameters()).device
    tower = model if isinstance(model, FastViTHDModel) else model.base_model.vision_tower
    if encoder is None:
        encoder = "compile" if device.type != "cpu" else "eager"
        if encoder == "eager" and is_installed("openvino") and tower.dtype in PRECISIONS:
            encoder = "openvino"
    _check(model, device, encoder, int8)
    if "encoder" in int8:
        _check_calibration(tower, calibration_pixels)
    tower.eval().reparameterize()
    was_cached = None
    if encoder == "openvino":
        pixels = calibration_pixels if "encoder" in int8 else None
        tower.runtime = OpenVinoEncoder(tower, Path(cache_dir) if cache_dir else None, pixels, compiled_sizes)
        was_cached = tower.runtime.was_cached
    elif encoder == "compile":
        tower.runtime = None
        tower.compile()  # not with CUDA graphs: their outputs are overwritten by the next call, threads fail
    if tower is not model and device.type == "cpu":
        optimize_decoder(model, int8="decoder" in int8)
    return Optimization(encoder, tuple(int8), time.perf_counter() - start, was_cached)


def _check(model: Any, device: torch.device, encoder: Encoder, int8: Collection[Part]) -> None:
    if encoder not in ("eager", "openvino", "compile"):
        raise ValueError(f"Unknown encoder {encoder!r}; known are 'eager', 'openvino' and 'compile'.")
    if unknown := set(int8) - {"encoder", "decoder"}:
        raise ValueError(f"Unknown parts {sorted(unknown)} in `int8`; known are 'encoder' and 'decoder'.")
    if (encoder == "openvino" or int8) and device.type != "cpu":
        raise ValueError(f"OpenVINO and int8 are for CPUs; the model is on {device}.")
    if int8 and not int8_is_fast():
        raise ValueError("int8 needs a CPU with VNNI instructions; on this one it would not be faster.")
    if "decoder" in int8 and isinstance(model, FastViTHDModel):
        raise ValueError("`int8` names the decoder, but the model is an encoder alone.")
    if "encoder" in int8 and encoder != "openvino":
        raise ValueError(f"An int8 encoder runs in OpenVINO only, not with encoder={encoder!r}.")
    needed = ["openvino"] * (encoder == "openvino") + ["nncf"] * ("encoder" in int8)
    require(needed, "inference")


def _check_calibration(tower: FastViTHDModel, pixels: torch.Tensor | None) -> None:
    if pixels is None or not pixels.numel():
        raise ValueError("An int8 encoder needs `calibration_pixels`: `pixel_values` of some images of the task.")
    tower._check_pixels(pixels)
    if not torch.isfinite(pixels).all():
        raise ValueError("`calibration_pixels` have NaN or infinite values.")
