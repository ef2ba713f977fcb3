# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Vision-language models to time, ours and peers, each as its users get it, with random weights and one decoder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, PretrainedConfig

from ..configuration_fastvlm import FastVLMConfig
from ..image_reading import read_image
from ..parts import Part
from ..processing_fastvlm import image_processor_class_of
from .encoders import clip_config, optimize_for_timing
from .settings import random_model, require_installed

# Qwen2's sizes in the released checkpoints.
DECODERS: dict[str, dict[str, int]] = {
    "0.5B": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "1.5B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
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
IMAGE_TOKEN_ID = 151646
TILED_RESOLUTION = 2048  # a 2x2 grid of 1024 and the overview, as in the paper


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
    image_processor: Callable[[list[Image.Image]], dict[str, torch.Tensor]]
    resolution: int

    def pixels(self, paths: list[Path]) -> dict[str, torch.Tensor]:
        """Image files to the model's inputs, on its device."""
        inputs = self.image_processor([read_image(path) for path in paths])
        return {name: tensor.to(self.model.device) for name, tensor in inputs.items()}

    @torch.no_grad()
    def prompt(self, paths: list[Path], text_tokens: int) -> torch.Tensor:
        """Token ids `(images, tokens)`: half of a random text, one image, the other half."""
        features = self.model.get_image_features(**self.pixels(paths), return_dict=True).pooler_output
        visual = sum(part.shape[:-1].numel() for part in features) // len(paths)
        generator = torch.Generator().manual_seed(0)
        # Placeholders come after all tokens of text.
        text = torch.randint(0, self.model.config.image_token_id, (len(paths), text_tokens), generator=generator)
        images = torch.full((len(paths), visual), self.model.config.image_token_id)
        half = text_tokens // 2
        return torch.cat([text[:, :half], images, text[:, half:]], dim=1).to(self.model.device)


def text_config(decoder: str) -> dict[str, Any]:
    """Qwen2's configuration at one of the `DECODERS`' sizes."""
    return {"model_type": "qwen2", "max_position_embeddings": 32768, "tie_word_embeddings": False, **DECODERS[decoder]}


ImageProcessor = Callable[[list[Image.Image]], dict[str, torch.Tensor]]


def our_config(decoder: str) -> PretrainedConfig:
    return FastVLMConfig(text_config=text_config(decoder), image_token_id=IMAGE_TOKEN_ID)


def our_processor(resolution: int) -> ImageProcessor:
    tiled = resolution == TILED_RESOLUTION
    kind: Any = image_processor_class_of()
    processor = kind(size=1024 if tiled else resolution, do_tile=tiled)
    return lambda images: {"pixel_values": processor(images, return_tensors="pt")["pixel_values"]}


def upstream_config(decoder: str) -> PretrainedConfig:
    from transformers import FastVlmConfig

    return FastVlmConfig(text_config=text_config(decoder), image_token_index=IMAGE_TOKEN_ID)


def clip_processor(resolution: int, normalize: bool = True) -> ImageProcessor:
    """CLIP's, which crops to the square."""
    from transformers import CLIPImageProcessor

    square = {"height": resolution, "width": resolution}
    processor = CLIPImageProcessor(size={"shortest_edge": resolution}, crop_size=square, do_normalize=normalize)
    return lambda images: {"pixel_values": processor(images, return_tensors="pt")["pixel_values"]}


def llava_onevision_config(decoder: str) -> PretrainedConfig:
    from transformers import LlavaOnevisionConfig

    return LlavaOnevisionConfig(text_config=text_config(decoder), image_token_index=IMAGE_TOKEN_ID)


def llava_onevision_processor(resolution: int) -> ImageProcessor:
    from transformers import LlavaOnevisionImageProcessor

    processor = LlavaOnevisionImageProcessor()

    def preprocess(images: list[Image.Image]) -> dict[str, torch.Tensor]:
        squares = [image.resize((resolution, resolution)) for image in images]  # to be cut into so many tiles
        inputs = processor(squares, return_tensors="pt")
        return {name: inputs[name] for name in ("pixel_values", "image_sizes")}

    return preprocess


def llava_config(decoder: str) -> PretrainedConfig:
    from transformers import LlavaConfig

    vision, text = clip_config(), text_config(decoder)
    return LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE_TOKEN_ID)


@dataclass(frozen=True)
class VlmKind:
    """
    Args:
        config: of the model, from a decoder's size.
        processor: how its users get images into it, from a resolution.
        resolution: the only one that it runs at; `None` if any.
        requires: modules beside transformers, of the `vision` and `bench` extras.
    """

    config: Callable[[str], PretrainedConfig]
    processor: Callable[[int], ImageProcessor]
    resolution: int | None = None
    requires: tuple[str, ...] = ()

    def build(self, decoder: str, dtype: torch.dtype = torch.float32) -> Any:
        """The model with random weights, the same at every call, in eval mode."""
        return random_model(self.config(decoder), dtype, AutoModelForImageTextToText)

    def require(self, name: str) -> None:
        """
        Raises:
            MissingPeerError: if a module is not installed.
        """
        require_installed(f"The peer {name!r}", self.requires, "vision,bench")


OURS_KIND = VlmKind(our_config, our_processor)
VLM_PEERS: Mapping[str, VlmKind] = {
    # transformers' own FastVLM, as its checkpoints come.
    "upstream": VlmKind(upstream_config, partial(clip_processor, normalize=False), requires=("torchvision", "timm")),
    # SigLIP-SO400M at 384: at 1152, nine tiles and the overview.
    "llava-onevision": VlmKind(llava_onevision_config, llava_onevision_processor, 1152, ("torchvision",)),
    # The LLaVA-1.5 setup: CLIP ViT-L/14 at 336, with the same decoder.
    "llava-1.5": VlmKind(llava_config, clip_processor, 336, ("torchvision",)),
}


@dataclass(frozen=True)
class Way:
    """
    Args:
        int8: what `optimize_for_inference` makes int8, beside putting the encoder into OpenVINO.
        requires: modules of the `inference` extra.
    """

    int8: tuple[Part, ...]
    requires: tuple[str, ...]

    def apply(self, model: Any) -> None:
        optimize_for_timing(model, self.int8)

    def require(self, name: str) -> None:
        """
        Raises:
            MissingPeerError: if a module is not installed.
        """
        require_installed(f"The way {name!r}", self.requires, "inference")


WAYS: Mapping[str, Way] = {
    "ours-openvino": Way((), ("openvino",)),
    "ours-int8": Way(("encoder", "decoder"), ("openvino", "nncf")),
}


def write_photograph(folder: Path, width: int, height: int) -> Path:
    """A JPEG file with the statistics of a photograph (energy falling with frequency), the same at every call."""
    random = np.random.RandomState(0)
    pixels = np.zeros((height, width, 3), np.float32)
    for side in (4, 16, 64, 256):
        noise = random.uniform(0, 255, (side, side, 3)).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    path = folder / f"photograph-{width}x{height}.jpg"
    Image.fromarray((pixels / 4).astype(np.uint8)).save(path, quality=90)
    return path
