# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What `run_ttft_benchmark` times: our model, the same after `optimize_for_inference`, and what else it is handed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, PretrainedConfig

from ..configuration_fastvlm import QWEN2_0_5B, FastVLMConfig
from ..extras import require
from ..image_reading import read_image
from ..inference import load_model
from ..parts import Part
from ..processing_fastvlm import image_processor_class_of
from .configurations import OURS, TILED_RESOLUTION, TtftBenchmarkConfig
from .encoder_subjects import optimize_for_timing
from .synthetic import random_model

ImageProcessor = Callable[[list[Image.Image]], dict[str, torch.Tensor]]

# Qwen2's sizes in the released checkpoints, where they are not those of the smallest.
DECODERS: dict[str, dict[str, int]] = {
    "0.5B": {},
    "1.5B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
}


@dataclass(frozen=True)
class VlmSubject:
    """
    A vision-language model to time, as its users get it. To go to another process, `build` and `processor` must be
    functions that can be imported there, or `partial`s of such.

    Args:
        name: in tables.
        build: the model, in eval mode, with the decoder's size and dtype that are asked for, on any device.
        processor: how its users get images into it, from a resolution.
        resolution: the only one that it runs at; `None` if any.
        tiles: whether it takes an image of `TILED_RESOLUTION`, as tiles.
        requires: modules beside transformers.
        extra: the extra of this package that installs them.
    """

    name: str
    build: Callable[[TtftBenchmarkConfig], Any]
    processor: Callable[[int], ImageProcessor]
    resolution: int | None = None
    tiles: bool = False
    requires: tuple[str, ...] = ()
    extra: str = "inference"

    def require(self) -> None:
        """
        Raises:
            MissingLibraryError: if a module is not installed.
        """
        require(self.requires, self.extra, self.name)


@dataclass
class Vlm:
    """
    A model with what turns image files into its inputs.

    Args:
        model: in eval mode, with the modules `vision_tower`, `multi_modal_projector` and `language_model`.
        image_processor: from opened images to the tensors that `generate` takes beside the prompt.
        resolution: side of the square that the images become, in pixels.
    """

    model: Any
    image_processor: ImageProcessor
    resolution: int

    def pixels(self, paths: list[Path]) -> dict[str, torch.Tensor]:
        """Image files to the model's inputs, on its device."""
        inputs = self.image_processor([read_image(path) for path in paths])
        return {name: tensor.to(self.model.device) for name, tensor in inputs.items()}

    def prompt(self, paths: list[Path], text_tokens: int) -> torch.Tensor:
        """Token ids `(images, tokens)` of prompts with one image each."""
        return random_prompts(self.model, self.pixels(paths), len(paths), text_tokens)


@torch.no_grad()
def random_prompts(model: Any, inputs: dict[str, torch.Tensor], count: int, text_tokens: int) -> torch.Tensor:
    """
    Token ids `(count, tokens)`: half of a random text, one image, the other half.

    Args:
        model: whose placeholder comes after all tokens of text.
        inputs: the images as `get_image_features` takes them.
        count: of prompts, each with an equal share of the visual tokens.
        text_tokens: in each, besides the image's.
    """
    features = model.get_image_features(**inputs, return_dict=True).pooler_output
    visual = sum(part.shape[:-1].numel() for part in features) // count
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, model.config.image_token_id, (count, text_tokens), generator=generator)
    images = torch.full((count, visual), model.config.image_token_id)
    half = text_tokens // 2
    return torch.cat([text[:, :half], images, text[:, half:]], dim=1).to(model.device)


def text_config(decoder: str) -> dict[str, Any]:
    """Qwen2's configuration at one of the `DECODERS`' sizes."""
    return {"model_type": "qwen2", **QWEN2_0_5B, **DECODERS[decoder]}


def our_config(decoder: str) -> FastVLMConfig:
    """FastVLM with that decoder."""
    return FastVLMConfig(text_config=text_config(decoder))


def random_vlm(config_of: Callable[[str], PretrainedConfig], config: TtftBenchmarkConfig) -> Any:
    """A model of `config_of(decoder)` with random weights, the same at every call, in eval mode."""
    return random_model(config_of(config.decoder), getattr(torch, config.dtype), AutoModelForImageTextToText)


def build_ours(config: TtftBenchmarkConfig) -> Any:
    """The checkpoint that is asked for, or random weights."""
    if config.model is None:
        return random_vlm(our_config, config)
    return load_model(config.model, dtype=getattr(torch, config.dtype), device=config.device)


def build_optimized(config: TtftBenchmarkConfig, int8: tuple[Part, ...] = ()) -> Any:
    """Ours after `optimize_for_inference`: the encoder in OpenVINO, and what is named in int8."""
    model = build_ours(config).to(config.device)
    optimize_for_timing(model, int8)
    return model


def our_processor(resolution: int) -> ImageProcessor:
    tiled = resolution == TILED_RESOLUTION
    kind: Any = image_processor_class_of()
    processor = kind(size=1024 if tiled else resolution, do_tile=tiled)
    return lambda images: {"pixel_values": processor(images, return_tensors="pt")["pixel_values"]}


OUR_VLM = VlmSubject(OURS, build_ours, our_processor, tiles=True)
VLM_WAYS: Mapping[str, VlmSubject] = {
    name: replace(OUR_VLM, name=name, build=build, requires=requires)
    for name, build, requires in (
        ("ours-openvino", build_optimized, ("openvino",)),
        ("ours-int8", partial(build_optimized, int8=("encoder", "decoder")), ("openvino", "nncf")),
    )
}
