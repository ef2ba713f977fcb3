# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Encoders to time beside ours: other ways to run the same weights, and other towers with random ones."""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModel, PretrainedConfig

from ..checkpoint_formats import encoder_renamings
from ..configuration_fastvlm import FASTVITHD_FAMILY, FastViTHDConfig
from ..inference import Part, optimize_for_inference
from ..inference.openvino_conversion import FeaturesAlone
from .settings import random_model, require_installed

Encoder = Callable[..., Any]  # pixel_values=(images, 3, height, width) → an output with `last_hidden_state`


@dataclass(frozen=True)
class Peer:
    """
    An encoder to time ours against.

    Args:
        build: from our encoder to it, on the same device and in the same dtype.
        requires: modules that it needs beside transformers.
        extra: the extra of this package that installs them.
        same_weights: whether its features are to be ours.
        dtypes: that it runs in; `None` for all.
    """

    build: Callable[[Any], Encoder]
    requires: tuple[str, ...] = ()
    extra: str = "bench"
    same_weights: bool = False
    dtypes: tuple[torch.dtype, ...] | None = None

    def require(self, name: str) -> None:
        """
        Raises:
            MissingPeerError: if a module is not installed.
        """
        require_installed(f"The peer {name!r}", self.requires, self.extra)


def _own_name(upstream_name: str) -> str:
    name = upstream_name.removeprefix("timm_model.")
    for renaming in encoder_renamings():
        name, _ = renaming.rename_source_key(name)
    return name


@torch.no_grad()
def build_upstream(ours: Any) -> Encoder:
    """The vision tower that transformers' `FastVlmForConditionalGeneration` builds, with the weights of ours."""
    from transformers import FastVlmConfig

    config: Any = FastVlmConfig().vision_config
    size = {"layers": tuple(ours.config.depths), "embed_dims": tuple(ours.config.hidden_sizes)}
    config.model_args = {**config.model_args, **size}
    upstream = AutoModel.from_config(config, dtype=ours.dtype)
    weights = ours.state_dict()
    upstream.load_state_dict({name: weights[_own_name(name)] for name in upstream.state_dict()})
    return upstream.to(ours.device).eval()


def optimize_for_timing(model: Any, int8: tuple[Part, ...] = ()) -> None:
    """Optimize ours: calibrated with noise, converted anew, and nothing stays on disk once the model is gone."""
    pixels = torch.rand(8, 3, 512, 512, generator=torch.Generator().manual_seed(0)) if int8 else None
    model.converted = tempfile.TemporaryDirectory()
    optimize_for_inference(model, "openvino", int8, pixels, model.converted.name)


def build_openvino(ours: Any, int8: tuple[Part, ...] = ()) -> Encoder:
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


def clip_config() -> PretrainedConfig:
    """CLIP ViT-L/14 at 336, LLaVA-1.5's tower."""
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
        image_size=336,
        projection_dim=768,
    )


def _siglip_config() -> PretrainedConfig:
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        patch_size=14,
        image_size=384,
    )


def _convnext_config() -> PretrainedConfig:
    from transformers import ConvNextConfig

    return ConvNextConfig(depths=[3, 3, 27, 3], hidden_sizes=[192, 384, 768, 1536])


def _tower(config: Callable[[], PretrainedConfig], interpolates: bool, ours: Any) -> Encoder:
    tower = random_model(config(), ours.dtype).to(ours.device)
    return partial(tower, interpolate_pos_encoding=True) if interpolates else tower


PEERS: dict[str, Peer] = {
    "upstream": Peer(build_upstream, requires=("timm",), same_weights=True),
    "openvino": Peer(build_openvino, ("openvino",), "inference", True, (torch.float32, torch.bfloat16)),
    "openvino-int8": Peer(partial(build_openvino, int8=("encoder",)), ("openvino", "nncf"), "inference"),
    "onnxruntime": Peer(OnnxEncoder, ("onnx", "onnxruntime"), "export", True, (torch.float32,)),
    "clip-vit-l": Peer(partial(_tower, clip_config, True)),
    "siglip-so400m": Peer(partial(_tower, _siglip_config, True)),
    "convnext-l": Peer(partial(_tower, _convnext_config, False)),
    "mci2": Peer(partial(_tower, lambda: FastViTHDConfig(**FASTVITHD_FAMILY["mci2"]), False)),
}
