# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Encoders of others: upstream's with our weights, and other towers with random ones."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from transformers import AutoModel, CLIPVisionConfig, ConvNextConfig, PretrainedConfig, SiglipVisionConfig

from transformers_fastvlm import FASTVITHD_FAMILY, FastViTHDConfig
from transformers_fastvlm.benchmark.encoder_subjects import Encoder, EncoderSubject
from transformers_fastvlm.benchmark.synthetic import random_model
from transformers_fastvlm.checkpoint_formats import encoder_renamings


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


def clip_config() -> PretrainedConfig:
    """CLIP ViT-L/14 at 336, LLaVA-1.5's tower."""
    return CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
        image_size=336,
        projection_dim=768,
    )


def siglip_config() -> PretrainedConfig:
    """SigLIP-SO400M/14 at 384, LLaVA-OneVision's tower."""
    return SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        patch_size=14,
        image_size=384,
    )


def convnext_config() -> PretrainedConfig:
    """ConvNeXt-L."""
    return ConvNextConfig(depths=[3, 3, 27, 3], hidden_sizes=[192, 384, 768, 1536])


def mci2_config() -> PretrainedConfig:
    """MobileCLIP's, of FastViT's family, a third of FastViTHD's size."""
    return FastViTHDConfig(**FASTVITHD_FAMILY["mci2"])


def build_tower(config: Callable[[], PretrainedConfig], interpolates: bool, ours: Any) -> Encoder:
    """A tower with random weights.

    Args:
        config: of the tower.
        interpolates: whether it takes other resolutions than its own only when told to interpolate its positions.
        ours: whose dtype and device it gets.
    """
    tower = random_model(config(), ours.dtype).to(ours.device)
    return partial(tower, interpolate_pos_encoding=True) if interpolates else tower


ENCODER_PEERS: Mapping[str, EncoderSubject] = {
    subject.name: subject
    for subject in (
        EncoderSubject("upstream", build_upstream, requires=("timm",), extra="dev", same_weights=True),
        EncoderSubject("clip-vit-l", partial(build_tower, clip_config, True)),
        EncoderSubject("siglip-so400m", partial(build_tower, siglip_config, True)),
        EncoderSubject("convnext-l", partial(build_tower, convnext_config, False)),
        EncoderSubject("mci2", partial(build_tower, mci2_config, False)),
    )
}
