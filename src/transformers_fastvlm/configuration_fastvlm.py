# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Configurations of FastViTHD (the vision encoder) and FastVLM (encoder, projector, decoder)."""

import contextlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import torch
from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneConfigMixin
from transformers.utils import CONFIG_NAME

from .checkpoint_formats import DEFAULT_IMAGE_TOKEN_ID, ORIGINAL, UPSTREAM, to_own_config


@strict
class FastViTHDConfig(BackboneConfigMixin, PretrainedConfig):
    r"""
    Configuration of [`FastViTHDModel`], FastVLM's hybrid convolution/attention encoder (arXiv 2412.13303, section
    3.2), and of every other size of its family (FastViT-MCi). The defaults are FastViTHD: five stages, stride 64,
    125 M parameters.

    Args:
        image_size (`int`, defaults to 1024): side, in pixels, of the square images the weights were trained for. The
            encoder itself takes any height and width divisible by [`stride`].
        num_channels (`int`, defaults to 3): channels of the input image.
        depths (`list[int]`): number of blocks per stage.
        hidden_sizes (`list[int]`): number of channels per stage.
        token_mixers (`list[str]`): `"repmixer"` (depthwise convolution) or `"attention"` per stage. Attention stages
            begin with a convolutional position encoding.
        mlp_ratio (`float`, defaults to 4.0): hidden channels of a block's convolutional feed-forward layer, relative
            to the stage's channels.
        attention_head_dim (`int`, defaults to 32): channels per attention head.
        attention_norm (`"layer_norm"` or `"batch_norm"`): normalisation before attention; the four-stage sizes use
            batch norm.
        attention_dropout (`float`, defaults to 0.0): dropout on the attention weights.
        squeeze_excite_stages (`list[int]`): 0-based stages whose downsampling uses squeeze-excite.
        stem_scale_branch (`bool`, defaults to `False`): whether the stem's 3x3 convolutions have a 1x1 branch in the
            training form.
        expansion_ratio (`float`, defaults to 2.0): channels of the output feature map relative to the last stage's.
        projection_dim (`int` or `None`, defaults to 768): size of the CLIP embedding; `None` leaves the CLIP head out.
        hidden_act (`str`, defaults to `"gelu"`): activation of every block.
        layer_norm_eps, batch_norm_eps (`float`, defaults to 1e-5): added to the variances that norms divide by.
        layer_scale_init_value (`float`, defaults to 1e-5): initial value of the layer scales.
        drop_path_rate (`float`, defaults to 0.0): stochastic depth of the last block while training; it rises linearly
            from the first.
        reparameterized (`bool`, defaults to `True`): `True` for the inference form (one convolution per block), as
            released checkpoints are stored; `False` for the multi-branch training form.
        initializer_range (`float`, defaults to 0.02): standard deviation of newly initialised weights.
        weights_license (`str`, *optional*): licence that the weights come under, by its identifier on the Hub; set
            while loading the authors' weights, and kept by whatever is saved of them.
        out_features, out_indices: stages that the backbone returns, of `["stem", "stage1", ...]`.

    Raises:
        ValueError: if the per-stage lists differ in length, or a width does not fit the attention heads.
    """

    model_type = "fastvithd"
    base_config_key = "vision_config"

    image_size: int = 1024
    num_channels: int = 3
    depths: list[int] | tuple[int, ...] = (2, 12, 24, 4, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (96, 192, 384, 768, 1536)
    token_mixers: list[str] | tuple[str, ...] = ("repmixer", "repmixer", "repmixer", "attention", "attention")
    mlp_ratio: int | float = 4.0
    attention_head_dim: int = 32
    attention_norm: Literal["layer_norm", "batch_norm"] = "layer_norm"
    attention_dropout: int | float = 0.0
    squeeze_excite_stages: list[int] | tuple[int, ...] = ()
    stem_scale_branch: bool = False
    expansion_ratio: int | float = 2.0
    projection_dim: int | None = 768
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    batch_norm_eps: float = 1e-5
    layer_scale_init_value: float = 1e-5
    drop_path_rate: int | float = 0.0
    reparameterized: bool = True
    initializer_range: float = 0.02
    weights_license: str | None = None

    def __post_init__(self, **kwargs):
        # JSON has no tuples: lists compare equal after a save and a load.
        for name in ("depths", "hidden_sizes", "token_mixers", "squeeze_excite_stages"):
            if not isinstance(value := getattr(self, name), (list, tuple)):
                raise ValueError(f"`{name}` must be a list with an entry per stage, got {value!r}.")
            setattr(self, name, list(value))
        _raise_on_unknown_dtype(self.dtype, kwargs.get("torch_dtype"))
        self.stage_names = ["stem"] + [f"stage{index}" for index in range(1, len(self.depths) + 1)]
        kwargs.pop("stage_names", None)
        with _values_of("choice of `out_features` and `out_indices`"):
            self.set_output_features_output_indices(
                out_features=kwargs.pop("out_features", None), out_indices=kwargs.pop("out_indices", None)
            )
        with _values_of("configuration"):
            super().__post_init__(**_without_derived_values(self, kwargs))

    def validate_architecture(self):
        """Part of the strict validation: rejects combinations that no encoder can have."""
        stages = len(self.depths)
        if not stages or len(self.hidden_sizes) != stages or len(self.token_mixers) != stages:
            raise ValueError(
                "`depths`, `hidden_sizes` and `token_mixers` need one entry per stage, got "
                f"{len(self.depths)}, {len(self.hidden_sizes)} and {len(self.token_mixers)}."
            )
        _raise_on_bad_numbers(lambda name: getattr(self, name, None))
        for width, mixer in zip(self.hidden_sizes, self.token_mixers):
            if mixer not in ("repmixer", "attention"):
                raise ValueError(f"`token_mixers` knows 'repmixer' and 'attention', got {mixer!r}.")
            if mixer == "attention" and width % self.attention_head_dim:
                raise ValueError(
                    f"An attention stage of {width} channels cannot be split into heads of "
                    f"`attention_head_dim={self.attention_head_dim}`."
                )
        for before, after in pairwise(self.hidden_sizes):
            if after % before:
                raise ValueError(
                    f"`hidden_sizes` {self.hidden_sizes}: a stage's channels must be a multiple of those of the stage "
                    f"before, but {after} is none of {before}."
                )
        if any(stage not in range(1, stages) for stage in self.squeeze_excite_stages):
            raise ValueError(f"`squeeze_excite_stages` must lie in 1..{stages - 1}, got {self.squeeze_excite_stages}.")
        for name in ("drop_path_rate", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must lie in [0, 1), got {getattr(self, name)}.")
        if self.hidden_size % self.hidden_sizes[-1]:
            raise ValueError(f"`expansion_ratio` must be a whole number, at least 1, got {self.expansion_ratio}.")
        _raise_on_unknown_activation(self.hidden_act, "hidden_act")

    @property
    def stride(self) -> int:
        """Input pixels per side of one cell of the output feature map: 4 for the stem, 2 for each further stage."""
        return 4 * 2 ** (len(self.depths) - 1)

    @property
    def hidden_size(self) -> int:
        """Channels of the output feature map, which the VLM projects."""
        return int(self.hidden_sizes[-1] * self.expansion_ratio)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        _raise_on_missing(config_dict, pretrained_model_name_or_path)
        return to_own_config(config_dict), kwargs


@strict
class FastVLMConfig(PretrainedConfig):
    r"""
    Configuration of [`FastVLMModel`] and [`FastVLMForConditionalGeneration`]: FastViTHD, a two-layer projector and a
    causal language model (arXiv 2412.13303, section 3.1). The defaults are FastVLM-0.5B.

    `from_pretrained` also reads the configuration of an original checkpoint (`llava_qwen2`) and of one converted for
    transformers' `fast_vlm`.

    Args:
        vision_config (`FastViTHDConfig` or `dict`, *optional*): the encoder.
        text_config (`PretrainedConfig` or `dict`, *optional*): the decoder; any causal language model. A dict without
            `model_type` is a Qwen2.
        image_token_id (`int`, defaults to 151646): placeholder token; every one is replaced by one visual token.
        projector_hidden_act (`str`, defaults to `"gelu"`): activation between the projector's two linear layers.
        projector_bias (`bool`, defaults to `True`): whether these layers have a bias.
        tie_word_embeddings (`bool`, defaults to `False`): whether `lm_head` shares the decoder's embedding.
        weights_license (`str`, *optional*): licence that the weights come under; see [`FastViTHDConfig`].

    Raises:
        ValueError: if the placeholder lies outside of the decoder's vocabulary.
    """

    model_type = "fastvlm"
    # What `Trainer` would gather over all batches beside the logits.
    keys_to_ignore_at_inference = ["cache", "past_key_values", "image_hidden_states", "aux_loss"]
    sub_configs = {"vision_config": FastViTHDConfig, "text_config": AutoConfig}

    vision_config: Any = None
    text_config: Any = None
    image_token_id: int = DEFAULT_IMAGE_TOKEN_ID
    projector_hidden_act: str = "gelu"
    projector_bias: bool = True
    tie_word_embeddings: bool = False
    weights_license: str | None = None

    def __post_init__(self, **kwargs):
        _raise_on_unknown_dtype(self.dtype, kwargs.get("torch_dtype"))
        for name in ("vision_config", "text_config"):
            if not isinstance(value := getattr(self, name), (PretrainedConfig, dict, type(None))):
                raise ValueError(f"`{name}` must be a configuration or a dictionary of its values, got {value!r}.")
        if not isinstance(self.vision_config, PretrainedConfig):
            self.vision_config = FastViTHDConfig(**(self.vision_config or {}))
        if not isinstance(self.text_config, PretrainedConfig):
            text_config = dict(QWEN2_0_5B if self.text_config is None else self.text_config)
            model_type = text_config.pop("model_type", "qwen2")
            if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
                raise ValueError(f"`text_config` is of a model type that transformers does not know: {model_type!r}.")
            _raise_on_bad_numbers(text_config.get)  # before lists of such lengths are made
            with _values_of("text_config"):
                self.text_config = CONFIG_MAPPING[model_type](**text_config)
        # Decoders that tie their embeddings say so in their own configuration.
        self.tie_word_embeddings = self.tie_word_embeddings or bool(
            getattr(self.text_config, "tie_word_embeddings", False)
        )
        with _values_of("configuration"):
            super().__post_init__(**_without_derived_values(self, kwargs))
        for part in (self.vision_config, self.text_config):  # serving engines ask the decoder's configuration
            if part.dtype is None:
                part.dtype = self.dtype

    def validate_architecture(self):
        """Part of the strict validation: rejects combinations that no model can have."""
        _raise_on_bad_numbers(lambda name: getattr(self.text_config, name, None))
        _raise_on_unknown_activation(self.projector_hidden_act, "projector_hidden_act")
        for name in ("hidden_act", "hidden_activation"):  # decoders differ in what they call it
            if (activation := getattr(self.text_config, name, None)) is not None:
                _raise_on_unknown_activation(activation, name)
        vocab_size = self.text_config.vocab_size
        if not 0 <= self.image_token_id < vocab_size:
            raise ValueError(
                f"`image_token_id={self.image_token_id}` lies outside of the decoder's vocabulary of {vocab_size} "
                "tokens. Give an id that the embedding table has a row for, or resize the token embeddings."
            )

    @property
    def image_seq_length(self) -> int:
        """Visual tokens of one square image of the resolution in `vision_config.image_size` (without tiles)."""
        return (self.vision_config.image_size // self.vision_config.stride) ** 2

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        config_dict, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        _raise_on_missing(config_dict, pretrained_model_name_or_path)
        return to_own_config(config_dict, pretrained_model_name_or_path, kwargs), unused


def _raise_on_missing(config_dict: dict[str, Any], source: Any) -> None:
    """Raise where a checkpoint has no configuration: transformers would build the default model, of full size."""
    if not config_dict.keys() - {"_commit_hash"}:  # which older ones put in
        raise OSError(f"{source} has no {CONFIG_NAME}, or an empty one.")


# What no model has more of; a damaged file may say anything, and building that would never end.
_MOST = {"depths": 1000, "num_hidden_layers": 10_000}
_MOST_CHANNELS = 2**24
_CHANNELS = ("hidden_sizes", "hidden_size", "intermediate_size", "vocab_size", "projection_dim", "num_channels")
_COUNTS = (*_MOST, *_CHANNELS, "attention_head_dim", "image_size", "num_attention_heads", "num_key_value_heads")
_MOST_RATIO = 1000
_RATIOS = ("mlp_ratio", "expansion_ratio", "layer_norm_eps", "batch_norm_eps")


def _raise_on_bad_numbers(value_of: Callable[[str], Any]) -> None:
    """Raise a `ValueError` for sizes that are no positive numbers, or larger than any model's. Decoders differ in
    which they have: `value_of` gives `None` for the others."""
    for name in _COUNTS:
        values, most = value_of(name), _MOST.get(name, _MOST_CHANNELS)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most):
                raise ValueError(f"`{name}` must be in 1..{most}, got {values!r}.")
    for name in _RATIOS:
        value = value_of(name)
        if value is not None and not (isinstance(value, (int, float)) and 0 < value <= _MOST_RATIO):
            raise ValueError(f"`{name}` must be a positive number up to {_MOST_RATIO}, got {value!r}.")
    heads, key_heads = value_of("num_attention_heads"), value_of("num_key_value_heads")
    if isinstance(heads, int) and isinstance(key_heads, int) and heads % key_heads:
        raise ValueError(f"`num_attention_heads` {heads} must be a multiple of `num_key_value_heads` {key_heads}.")
    width = value_of("hidden_size")
    is_split = isinstance(heads, int) and isinstance(width, int) and value_of("head_dim") is None
    if is_split and (width < heads or width // heads % 2):  # rotary positions turn pairs of channels
        raise ValueError(f"`hidden_size` {width} in `num_attention_heads` {heads} gives no even number per head.")


def _raise_on_unknown_activation(name: Any, option: str) -> None:
    if name not in ACT2FN:
        raise ValueError(f"`{option}` must be one of transformers' activations, such as 'gelu', got {name!r}.")


def _raise_on_unknown_dtype(*dtypes: Any) -> None:
    for dtype in dtypes:
        is_known = dtype is None or isinstance(dtype, torch.dtype)
        if not is_known and not (isinstance(dtype, str) and isinstance(getattr(torch, dtype, None), torch.dtype)):
            raise ValueError(f"`dtype` must be the name of a torch data type, such as 'bfloat16', got {dtype!r}.")


def _without_derived_values(config: PretrainedConfig, given: dict[str, Any]) -> dict[str, Any]:
    """What was given but for values that follow from others; a `ValueError` for those that do not agree with them."""
    derived = {name for name, value in vars(type(config)).items() if isinstance(value, property)}
    for name in derived & given.keys():
        if given[name] != getattr(config, name):
            raise ValueError(f"`{name}` follows from other values: {getattr(config, name)}, got {given[name]!r}.")
    return {name: value for name, value in given.items() if name not in derived}


@contextlib.contextmanager
def _values_of(what: str):
    """Turn what transformers raises on values of the wrong kind into a `ValueError`."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"The {what} has a value of the wrong kind: {error}") from error


class LlavaQwen2Config(PretrainedConfig):
    """Stands for the original's model type in `AutoConfig`: what it builds is a [`FastVLMConfig`]."""

    model_type = ORIGINAL

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        return FastVLMConfig.from_dict(to_own_config(config_dict, kwargs.get("name_or_path"), kwargs), **kwargs)


class FastVlmUpstreamConfig(LlavaQwen2Config):
    """The same for transformers' own `fast_vlm`, registered only when asked for."""

    model_type = UPSTREAM


QWEN2_0_5B = {
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
}

_FOUR_STAGE = {
    "token_mixers": ["repmixer", "repmixer", "repmixer", "attention"],
    "mlp_ratio": 3.0,
    "attention_norm": "batch_norm",
    "squeeze_excite_stages": [2, 3],
    "stem_scale_branch": True,
    "projection_dim": 512,
    "image_size": 256,
}

# Sizes of the encoder family, by the names they have in MobileCLIP and MobileCLIP2; MCi3 is FastViTHD.
FASTVITHD_FAMILY: dict[str, dict[str, Any]] = {
    "mci0": {**_FOUR_STAGE, "depths": [2, 6, 10, 2], "hidden_sizes": [64, 128, 256, 512]},
    "mci1": {**_FOUR_STAGE, "depths": [4, 12, 20, 4], "hidden_sizes": [64, 128, 256, 512]},
    "mci2": {**_FOUR_STAGE, "depths": [4, 12, 24, 4], "hidden_sizes": [80, 160, 320, 640]},
    "mci3": {},
    "mci4": {"depths": [2, 12, 24, 4, 4], "hidden_sizes": [128, 256, 512, 1024, 2048]},
}

__all__ = ["FASTVITHD_FAMILY", "FastVLMConfig", "FastViTHDConfig"]
