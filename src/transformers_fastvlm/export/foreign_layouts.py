# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints in the two foreign layouts, for programs that read those: the reverse of what `checkpoint_formats` reads.

- *original*, `llava_qwen2`: the authors' code, their app for phones, mlx-vlm.
- *upstream*, `fast_vlm`: transformers' own class.

Both have FastViTHD alone as encoder and Qwen2 as decoder.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch

from ..checkpoint_formats import ORIGINAL, UPSTREAM, to_own_name
from ..configuration_fastvlm import FastViTHDConfig, FastVLMConfig
from .errors import ExportError

_VISION = "model.vision_tower."
# What makes an encoder FastViTHD, which either layout has by its name alone.
_SIZES = (
    "depths",
    "hidden_sizes",
    "token_mixers",
    "mlp_ratio",
    "squeeze_excite_stages",
    "stem_scale_branch",
    "num_channels",
)

_TOP_TO_ORIGINAL = [
    (r"^model\.multi_modal_projector\.linear_1\.", "model.mm_projector.0."),
    (r"^model\.multi_modal_projector\.linear_2\.", "model.mm_projector.2."),
    (r"^model\.language_model\.", "model."),
]
_IN_ALL_CONVOLUTIONS = [
    (r"_branch\.norm\.", "_branch.bn."),
    (r"\.feed_forward\.depthwise\.conv\.", ".feed_forward.conv.conv."),
    (r"\.feed_forward\.depthwise\.norm\.", ".feed_forward.conv.bn."),
]
# Stages, position encodings and downsamplings are numbered through.
_ENCODER_TO_ORIGINAL = [
    *_IN_ALL_CONVOLUTIONS,
    (r"\.large_kernel\.conv\.", ".large_kernel.lkb_reparam."),
    (r"\.large_branch\.", ".lkb_origin."),
    (r"\.small_branch\.", ".small_conv."),
    (r"\.position_encoding\.conv_branch\.", ".position_encoding.pe."),
    (r"\.token_mixer\.norm\.", ".token_mixer.norm.rbr_skip."),
    (r"\.token_mixer\.((?:conv|scale|skip)_branch)\.", r".token_mixer.mixer.\1."),
    (r"\.conv_branch\.", ".rbr_conv.0."),
    (r"\.scale_branch\.", ".rbr_scale."),
    (r"\.skip_branch\.", ".rbr_skip."),
    (r"\.feed_forward\.", ".convffn."),
    (r"(?<!\.convffn\.conv)(?<!\.rbr_conv\.0)(?<!\.rbr_scale)(?<!\.lkb_origin)(?<!\.small_conv)\.conv\.(weight|bias)$",
     r".reparam_conv.\1"),
    (r"^stem\.", "patch_embed."),
    (r"^stages\.0\.blocks\.", "network.0."),
    (r"^stages\.1\.blocks\.", "network.2."),
    (r"^stages\.2\.blocks\.", "network.4."),
    (r"^stages\.3\.blocks\.", "network.7."),
    (r"^stages\.4\.blocks\.", "network.10."),
    (r"^stages\.3\.position_encoding\.", "network.6."),
    (r"^stages\.4\.position_encoding\.", "network.9."),
    (r"^stages\.1\.downsampling\.", "network.1.proj."),
    (r"^stages\.2\.downsampling\.", "network.3.proj."),
    (r"^stages\.3\.downsampling\.", "network.5.proj."),
    (r"^stages\.4\.downsampling\.", "network.8.proj."),
    (r"\.proj\.large_kernel\.", ".proj.0."),
    (r"\.proj\.pointwise\.", ".proj.1."),
    (r"^final_conv\.squeeze_excite\.", "conv_exp.se."),
    (r"^final_conv\.", "conv_exp."),
    (r"^projection$", "head.proj"),
]  # fmt: skip
# timm nests as we do.
_ENCODER_TO_UPSTREAM = [
    *_IN_ALL_CONVOLUTIONS,
    (r"\.large_branch\.", ".large_conv."),
    (r"\.small_branch\.", ".small_conv."),
    (r"\.position_encoding\.conv_branch\.", ".pos_emb.pos_enc."),
    (r"\.position_encoding\.", ".pos_emb."),
    (r"\.token_mixer\.norm\.", ".token_mixer.norm.identity."),
    (r"\.token_mixer\.((?:conv|scale|skip)_branch)\.", r".token_mixer.mixer.\1."),
    (r"\.conv_branch\.", ".conv_kxk.0."),
    (r"\.scale_branch\.", ".conv_scale."),
    (r"\.skip_branch\.", ".identity."),
    (r"\.feed_forward\.", ".mlp."),
    (r"(?<!\.mlp\.conv)(?<!\.conv_kxk\.0)(?<!\.conv_scale)(?<!\.large_conv)(?<!\.small_conv)\.conv\.(weight|bias)$",
     r".reparam_conv.\1"),
    (r"\.downsampling\.large_kernel\.", ".downsample.proj.0."),
    (r"\.downsampling\.pointwise\.", ".downsample.proj.1."),
    (r"\.(layer_scale(?:_[12])?)$", r".\1.gamma"),
    (r"\.squeeze_excite\.reduce\.", ".se.fc1."),
    (r"\.squeeze_excite\.expand\.", ".se.fc2."),
]  # fmt: skip
_PREFIXES = {ORIGINAL: "model.vision_tower.vision_tower.model.", UPSTREAM: "model.vision_tower.timm_model."}
_ENCODERS = {ORIGINAL: _ENCODER_TO_ORIGINAL, UPSTREAM: _ENCODER_TO_UPSTREAM}


def foreign_name(name: str, layout: str) -> str:
    """
    A tensor's name in a foreign layout, `ORIGINAL` or `UPSTREAM`, from ours.

    Raises:
        ExportError: if reading would not give ours again.
    """
    if name.startswith(_VISION):
        found = _PREFIXES[layout] + _renamed(name.removeprefix(_VISION), _ENCODERS[layout])
    else:
        found = _renamed(name, _TOP_TO_ORIGINAL) if layout == ORIGINAL else name
    if to_own_name(found) != name:
        raise ExportError(f"There is no name for {name} in this layout.")
    return found


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def require_layout_fits(config: FastVLMConfig) -> None:
    """
    Raises:
        ExportError: if a model has parts that neither foreign layout can say.
    """
    known = FastViTHDConfig()
    for name in _SIZES:
        ours, theirs = getattr(config.vision_config, name), getattr(known, name)
        if ours != theirs:
            raise ExportError(f"This layout has FastViTHD as encoder, with {name} {theirs}, not {ours}.")
    if config.text_config.model_type != "qwen2":
        raise ExportError(f"This layout has Qwen2 as decoder, not {config.text_config.model_type}.")
    if config.projector_hidden_act != "gelu" or not config.projector_bias:
        raise ExportError("This layout has a projector with GELU and biases.")


def foreign_tensors(model: Any, layout: str) -> dict[str, torch.Tensor]:
    """
    The tensors of a model by their names in a foreign layout, the head among them, tied or not.

    Upstream leaves the CLIP head out. The original has one: without, it is zeros, which a VLM does not use.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == f"{_VISION}projection" and layout == UPSTREAM:
            continue
        tensors[foreign_name(name, layout)] = tensor.contiguous()
    tensors["lm_head.weight"] = model.get_output_embeddings().weight.detach().clone()
    head = _PREFIXES[ORIGINAL] + "head.proj"
    if layout == ORIGINAL and head not in tensors:
        shape: Any = model.config.vision_config.hidden_size, FastViTHDConfig().projection_dim
        tensors[head] = torch.zeros(shape, dtype=model.model.vision_tower.dtype)
    return tensors
