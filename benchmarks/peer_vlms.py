# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Vision-language models of others, each as its users get it, with random weights and the decoder of ours."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from PIL import Image
from transformers import PretrainedConfig

from peer_encoders import clip_config
from transformers_fastvlm.benchmark.vlm_subjects import ImageProcessor, VlmSubject, our_config, random_vlm, text_config


def _with_decoder(kind: Any, decoder: str, **settings: Any) -> PretrainedConfig:
    image_token = our_config(decoder).image_token_id
    return kind(text_config=text_config(decoder), image_token_index=image_token, **settings)


def upstream_config(decoder: str) -> PretrainedConfig:
    from transformers import FastVlmConfig

    return _with_decoder(FastVlmConfig, decoder)


def llava_onevision_config(decoder: str) -> PretrainedConfig:
    from transformers import LlavaOnevisionConfig

    return _with_decoder(LlavaOnevisionConfig, decoder)


def llava_config(decoder: str) -> PretrainedConfig:
    from transformers import LlavaConfig

    return _with_decoder(LlavaConfig, decoder, vision_config=clip_config())


def clip_processor(resolution: int, normalize: bool = True) -> ImageProcessor:
    """CLIP's, which crops to the square."""
    from transformers import CLIPImageProcessor

    square = {"height": resolution, "width": resolution}
    processor = CLIPImageProcessor(size={"shortest_edge": resolution}, crop_size=square, do_normalize=normalize)
    return lambda images: {"pixel_values": processor(images, return_tensors="pt")["pixel_values"]}


def llava_onevision_processor(resolution: int) -> ImageProcessor:
    from transformers import LlavaOnevisionImageProcessor

    processor = LlavaOnevisionImageProcessor()

    def preprocess(images: list[Image.Image]) -> dict[str, torch.Tensor]:
        squares = [image.resize((resolution, resolution)) for image in images]  # to be cut into so many tiles
        inputs = processor(squares, return_tensors="pt")
        return {name: inputs[name] for name in ("pixel_values", "image_sizes")}

    return preprocess


def _peer(
    name: str,
    config_of: Callable[[str], PretrainedConfig],
    processor: Callable[[int], ImageProcessor],
    resolution: int | None = None,
    requires: tuple[str, ...] = ("torchvision",),
) -> VlmSubject:
    return VlmSubject(
        name, partial(random_vlm, config_of), processor, resolution=resolution, requires=requires, extra="dev"
    )


VLM_PEERS: Mapping[str, VlmSubject] = {
    subject.name: subject
    for subject in (
        # transformers' own FastVLM, as its checkpoints come.
        _peer("upstream", upstream_config, partial(clip_processor, normalize=False), requires=("torchvision", "timm")),
        # SigLIP-SO400M at 384: at 1152, nine tiles and the overview.
        _peer("llava-onevision", llava_onevision_config, llava_onevision_processor, 1152),
        # The LLaVA-1.5 setup: CLIP ViT-L/14 at 336.
        _peer("llava-1.5", llava_config, clip_processor, 336),
    )
}
