# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The two foreign checkpoint formats: what their configurations, processors and tensors' names are in ours.

- *original*, `llava_qwen2`: as the authors publish it; flat Qwen2 and LLaVA keys in one `config.json`.
- *upstream*, `fast_vlm`: converted for transformers' own class; the encoder's tensors are named as in timm.

Renaming is one-way. Names of our own format match none of the patterns, so they apply to every checkpoint.
"""

import ast
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.core_model_loading import WeightConverter, WeightRenaming
from transformers.image_processing_base import ImageProcessingMixin

from .checkpoint_files import hub_arguments, hub_file, read_json_object

ORIGINAL, UPSTREAM = "llava_qwen2", "fast_vlm"  # model types
FOREIGN_FORMATS = {ORIGINAL: "original", UPSTREAM: "upstream"}
# Qwen2's special tokens, which its tokenizers of every size share.
IM_END_ID, ENDOFTEXT_ID = 151645, 151643
_END_OF_TURN = "<|im_end|>"
IMAGE_TOKEN = "<image>"
# First id after Qwen2's special tokens: where `<image>` goes when a folder has no tokenizer to tell.
DEFAULT_IMAGE_TOKEN_ID = 151646
# The licence of the authors' weights, by its identifier on the Hub. It goes with every derivative of them.
ORIGINAL_LICENSE = "apple-amlr"

TEXT_KEYS = (
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "max_window_layers",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "use_cache",
    "use_sliding_window",
    "vocab_size",
)


def original_resolution(tower_name: str) -> int:
    """Side of the input images in pixels, which the original keeps in the encoder's name.

    Raises:
        ValueError: if `tower_name` is not that of FastViTHD.
    """
    match = re.fullmatch(r"mobileclip_l_(\d+)", tower_name.rstrip("/").rsplit("/", 1)[-1])
    if match is None:
        raise ValueError(
            f"Unknown vision tower {tower_name!r} in `mm_vision_tower`. Known is FastViTHD, written "
            "'mobileclip_l_RESOLUTION', for example 'mobileclip_l_1024'."
        )
    return int(match.group(1))


def _from_original(config: dict[str, Any]) -> dict[str, Any]:
    if not config.get("mm_vision_tower"):
        raise ValueError("This `llava_qwen2` configuration names no vision tower (`mm_vision_tower` is missing).")
    if (projector := config.get("mm_projector_type")) != "mlp2x_gelu":
        raise ValueError(f"Unknown projector {projector!r} in `mm_projector_type`. FastVLM has 'mlp2x_gelu'.")
    text_config = {key: config[key] for key in TEXT_KEYS if config.get(key) is not None}
    stops = [config.get("eos_token_id", IM_END_ID), config.get("bos_token_id", ENDOFTEXT_ID)]
    return {
        "architectures": config.get("architectures"),
        "vision_config": {
            "image_size": original_resolution(config["mm_vision_tower"]),
            "weights_license": ORIGINAL_LICENSE,
        },
        # A turn ends with <|im_end|>, a document with <|endoftext|>; the original stops at both.
        "text_config": {**text_config, "model_type": "qwen2", "eos_token_id": stops, "tie_word_embeddings": False},
        "image_token_id": config.get("image_token_id", DEFAULT_IMAGE_TOKEN_ID),
        "tie_word_embeddings": False,
        "weights_license": ORIGINAL_LICENSE,
        "dtype": config.get("dtype", config.get("torch_dtype")),
    }


def _from_upstream(config: dict[str, Any]) -> dict[str, Any]:
    vision_config = config.get("vision_config") or {}
    architecture = vision_config.get("architecture", "fastvit_mci3")
    if architecture.split(".")[0] != "fastvit_mci3":
        raise ValueError(f"Unknown encoder {architecture!r} in a `fast_vlm` configuration; known is 'fastvit_mci3'.")
    text_config = {"model_type": "qwen2", **(config.get("text_config") or {})}
    if text_config["model_type"] == "qwen2" and text_config.get("vocab_size", 0) > IM_END_ID:
        text_config["eos_token_id"] = [IM_END_ID, ENDOFTEXT_ID]
    image_token_id = config.get("image_token_id", config.get("image_token_index", DEFAULT_IMAGE_TOKEN_ID))
    tokens = config.get("image_seq_length")
    return {
        "architectures": config.get("architectures"),
        # The conversion leaves the CLIP head out.
        "vision_config": {
            "image_size": 64 * round(tokens**0.5) if tokens else 1024,
            "projection_dim": None,
            "weights_license": ORIGINAL_LICENSE,
        },
        "text_config": text_config,
        "image_token_id": image_token_id,
        "projector_hidden_act": config.get("projector_hidden_act", "gelu"),
        "projector_bias": config.get("multimodal_projector_bias", True),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "weights_license": ORIGINAL_LICENSE,
        "dtype": config.get("dtype", config.get("torch_dtype")),
    }


def to_own_config(
    config: dict[str, Any], source: str | os.PathLike | None = None, arguments: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    The configuration of an original or upstream checkpoint in our own layout; any other is returned as it is.

    Args:
        config: as stored.
        source: the folder or Hub id that it is from. Its tokenizer tells the placeholder's id, which the original's
            configuration does not.
        arguments: where on the Hub, see `HUB_ARGUMENTS`.

    Raises:
        ValueError: if the encoder or projector is none that FastVLM has, or a value is of the wrong kind.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str | None):
        raise ValueError(f"A configuration's `model_type` must be a string, got {model_type!r}.")
    if model_type not in FOREIGN_FORMATS:
        return config
    if model_type == ORIGINAL and "image_token_id" not in config and source:
        config = {**config, "image_token_id": find_image_token_id(source, arguments or {})}
    translate = _from_original if model_type == ORIGINAL else _from_upstream
    try:
        return {"model_type": "fastvlm", **translate(config)}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"This `{model_type}` configuration has a value of the wrong kind: {error}") from error


def source_format(source: str | os.PathLike, arguments: Mapping[str, Any] | None = None) -> str:
    """The layout of a checkpoint, by its configuration: "original", "upstream" or "own"."""
    config, _ = PretrainedConfig.get_config_dict(source, **hub_arguments(arguments or {}))
    return FOREIGN_FORMATS.get(config.get("model_type", ""), "own")


def find_image_token_id(source: str | os.PathLike, arguments: Mapping[str, Any]) -> int:
    """The id of `<image>` in a checkpoint's tokenizer, or the first free id, which it gets when it is added.

    Reads the tokenizer's files as text; a folder without any is taken for Qwen2's.

    Raises:
        ValueError: if one of them is damaged.
    """
    ids: dict[str, int] = {}
    if path := hub_file(source, "tokenizer.json", arguments):
        tokenizer = read_json_object(path)
        try:
            ids |= tokenizer["model"].get("vocab", {})
            ids |= {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: it describes no tokenizer.") from error
    for name in ("vocab.json", "added_tokens.json"):
        if path := hub_file(source, name, arguments):
            ids |= read_json_object(path)
    if path := hub_file(source, "tokenizer_config.json", arguments):
        added = read_json_object(path).get("added_tokens_decoder", {})
        try:
            ids |= {token["content"]: int(index) for index, token in added.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: its `added_tokens_decoder` is none.") from error
    if not all(type(index) is int for index in ids.values()):
        raise ValueError(f"The tokenizer of {source} is damaged: it has tokens whose ids are no numbers.")
    if not ids:
        return DEFAULT_IMAGE_TOKEN_ID
    return ids.get(IMAGE_TOKEN, max(ids.values()) + 1)


def foreign_processor_settings(
    config: dict[str, Any], source: str | os.PathLike, arguments: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """
    What an original or upstream checkpoint says of its `tokenizer` and `image_processor`, as options of ours.

    Neither its image processor, which does not pad, nor its chat template is the original's: a processor is made anew.

    Args:
        config: the checkpoint's configuration, as stored.
        source: its folder or Hub id.
        arguments: where on the Hub, see `HUB_ARGUMENTS`.

    Raises:
        ValueError: if its images are prepared in a way that is not FastVLM's.
    """
    tokenizer = {}
    if config.get("tokenizer_model_max_length"):
        tokenizer["model_max_length"] = config["tokenizer_model_max_length"]
    image_options = (
        _original_image_options(config)
        if config["model_type"] == ORIGINAL
        else _upstream_image_options(source, arguments)
    )
    return {"tokenizer": tokenizer, "image_processor": image_options}


def _original_image_options(config: dict[str, Any]) -> dict[str, Any]:
    aspect_ratio = config.get("image_aspect_ratio")
    if aspect_ratio in (None, "square"):
        return {"do_pad": False}
    if aspect_ratio == "pad":
        return {}
    if aspect_ratio != "anyres":
        raise ValueError(f"Unknown `image_aspect_ratio` {aspect_ratio!r}; known are 'pad', 'anyres' and 'square'.")
    pinpoints = config.get("image_grid_pinpoints")
    # Older configurations keep the list as text.
    return {
        "do_tile": True,
        "image_grid_pinpoints": ast.literal_eval(pinpoints) if isinstance(pinpoints, str) else pinpoints,
    }


def _upstream_image_options(source: str | os.PathLike, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The size that an upstream checkpoint's image processor crops to, if it has one."""
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(source, **hub_arguments(arguments))
    except OSError:
        return {}
    size = settings.get("crop_size") or settings.get("size")
    return {"size": size} if size else {}


def end_at_turns(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a foreign checkpoint's tokenizer, in place, end with the turn: upstream's has <|endoftext|>."""
    if _END_OF_TURN in tokenizer.get_added_vocab():
        tokenizer.eos_token = _END_OF_TURN


_TOP_LEVEL = [
    (r"^model\.vision_tower\.vision_tower\.model\.", "model.vision_tower."),
    (r"^model\.vision_tower\.timm_model\.", "model.vision_tower."),
    (r"^model\.mm_projector\.0\.", "model.multi_modal_projector.linear_1."),
    (r"^model\.mm_projector\.2\.", "model.multi_modal_projector.linear_2."),
    (r"^model\.embed_tokens\.", "model.language_model.embed_tokens."),
    (r"^model\.layers\.", "model.language_model.layers."),
    (r"^model\.norm\.", "model.language_model.norm."),
]

_ENCODER_PREFIXES = [
    (r"^model\.vision_tower\.vision_tower\.model\.", ""),
    (r"^model\.vision_tower\.timm_model\.", ""),
    (r"^model\.vision_tower\.", ""),
]

# The original numbers stages, position encodings and downsamplings through; timm nests them as we do.
_ENCODER_PARTS = [
    (r"^patch_embed\.", "stem."),
    (r"^network\.0\.", "stages.0.blocks."),
    (r"^network\.1\.proj\.", "stages.1.downsample.proj."),
    (r"^network\.2\.", "stages.1.blocks."),
    (r"^network\.3\.proj\.", "stages.2.downsample.proj."),
    (r"^network\.4\.", "stages.2.blocks."),
    (r"^network\.5\.proj\.", "stages.3.downsample.proj."),
    (r"^network\.6\.pe\.", "stages.3.position_encoding.conv_branch."),
    (r"^network\.6\.reparam_conv\.", "stages.3.position_encoding.conv."),
    (r"^network\.7\.", "stages.3.blocks."),
    (r"^network\.8\.proj\.", "stages.4.downsample.proj."),
    (r"^network\.9\.pe\.", "stages.4.position_encoding.conv_branch."),
    (r"^network\.9\.reparam_conv\.", "stages.4.position_encoding.conv."),
    (r"^network\.10\.", "stages.4.blocks."),
    (r"^conv_exp\.", "final_conv."),
    (r"^head\.proj$", "projection"),
    (r"\.pos_emb\.pos_enc\.", ".position_encoding.conv_branch."),
    (r"\.pos_emb\.reparam_conv\.", ".position_encoding.conv."),
    (r"\.downsample\.proj\.0\.", ".downsampling.large_kernel."),
    (r"\.downsample\.proj\.1\.", ".downsampling.pointwise."),
    (r"\.convffn\.", ".feed_forward."),
    (r"\.mlp\.", ".feed_forward."),
    (r"\.feed_forward\.conv\.conv\.", ".feed_forward.depthwise.conv."),
    (r"\.feed_forward\.conv\.bn\.", ".feed_forward.depthwise.norm."),
    (r"\.token_mixer\.norm\.rbr_skip\.", ".token_mixer.norm."),
    (r"\.token_mixer\.norm\.identity\.", ".token_mixer.norm."),
    (r"\.token_mixer\.mixer\.", ".token_mixer."),
    (r"\.gamma$", ""),
    (r"\.(?:reparam_conv|lkb_reparam)\.", ".conv."),
    (r"\.(?:rbr_conv|conv_kxk)\.0\.", ".conv_branch."),
    (r"\.(?:rbr_scale|conv_scale)\.", ".scale_branch."),
    (r"\.(?:rbr_skip|identity)\.", ".skip_branch."),
    (r"\.(?:lkb_origin|large_conv)\.", ".large_branch."),
    (r"\.small_conv\.", ".small_branch."),
    (r"_branch\.bn\.", "_branch.norm."),
    (r"\.se\.(?:reduce|fc1)\.", ".squeeze_excite.reduce."),
    (r"\.se\.(?:expand|fc2)\.", ".squeeze_excite.expand."),
]


def to_own_name(name: str) -> str:
    """A tensor's name in a whole checkpoint of any format, in ours."""
    for pattern, replacement in _TOP_LEVEL:
        name = re.sub(pattern, replacement, name)
    prefix = "model.vision_tower."
    if not name.startswith(prefix):
        return name
    part = name.removeprefix(prefix)
    for pattern, replacement in _ENCODER_PARTS:
        part = re.sub(pattern, replacement, part)
    return prefix + part


class OneWayRenaming(WeightRenaming):
    """A renaming that saving does not undo, so that every save has our own names."""

    def reverse_transform(self) -> WeightRenaming:
        return WeightRenaming(source_patterns=r"^(?!)", target_patterns="")


def model_renamings() -> list[WeightConverter | WeightRenaming]:
    """Renamings around the encoder, for `FastVLMModel` and `FastVLMForConditionalGeneration`."""
    return [OneWayRenaming(source, target) for source, target in _TOP_LEVEL]


def encoder_renamings() -> list[WeightConverter | WeightRenaming]:
    """Renamings of the encoder's tensors, for `FastViTHDModel` alone or inside a FastVLM."""
    return [OneWayRenaming(source, target) for source, target in _ENCODER_PREFIXES + _ENCODER_PARTS]


_TRAINING_FORM = re.compile(
    r"(?:^|\.)(?:conv_branch|rbr_conv|conv_kxk|large_branch|lkb_origin|large_conv|skip_branch|rbr_skip)\."
)


def has_training_form(tensor_names: Iterable[str]) -> bool:
    """Whether an encoder's tensors, named as in any of the formats, are those of the multi-branch training form."""
    return any(_TRAINING_FORM.search(name) for name in tensor_names)
