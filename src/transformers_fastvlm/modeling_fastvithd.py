# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastViTHD, the vision encoder of FastVLM (arXiv 2412.13303, section 3.2), and the other sizes of its family.

Five stages at strides 4 to 64: RepMixer (depthwise convolution) blocks at high resolution, self-attention blocks at
low resolution. Every convolutional block exists in a multi-branch training form and an equal single-convolution
inference form; `config.reparameterized` says which one a model has, and `reparameterize()` goes from the first to the
second.

Feature maps are `(batch, channels, height, width)` tensors, laid out channels-last in memory: that is what
convolutions run fastest on, and it makes the change to `(batch, tokens, channels)` for attention free.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneMixin
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput, ModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .checkpoint_formats import encoder_renamings
from .configuration_fastvlm import FastViTHDConfig
from .cpu_kernels import (
    attention_block,
    conv_feed_forward,
    convolution_block,
    cpu_forward,
    encoder_features,
    is_float32,
    is_sdpa,
    keep_freed_memory,
    mark_as_built,
    pointwise_linear,
    runs_elsewhere_or_in_turn,
    self_attention,
    stem_in_strips,
)
from .finite_checks import raise_on_non_finite_features
from .layers_fastvithd import (
    ConditionalPositionEncoding,
    FastViTHDBatchNorm,
    FastViTHDConvNorm,
    LargeKernelConv,
    MobileOneBlock,
    Reparameterizable,
    RepMixer,
    identity_kernel,
    layer_scale,
    starting_as,
)
from .loading import CheckpointLoadingMixin
from .prompt_checks import raise_on_bad_pixels


@dataclass
class FastViTHDModelOutput(ModelOutput):
    """
    Output of [`FastViTHDModel`].

    Args:
        last_hidden_state (`torch.Tensor` of shape `(batch, channels, height / stride, width / stride)`):
            feature map after the last convolution, which the VLM projects; 3072 channels for FastViTHD.
        pooler_output (`torch.Tensor` of shape `(batch, projection_dim)`, *optional*):
            CLIP image embedding, not normalised. `None` if `config.projection_dim` is.
        hidden_states (`tuple[torch.Tensor]`, *optional*, with `output_hidden_states=True`):
            feature maps of the stem and of each stage.
        attentions (`tuple[torch.Tensor]`, *optional*, with `output_attentions=True` and eager attention):
            one `(batch, heads, tokens, tokens)` tensor per attention block.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


CLIP_HEAD = r"(^|\.)projection$"  # stored, and left out where `config.projection_dim` is `None`


class DropPath(nn.Module):
    """Stochastic depth: while training, drops a residual branch for whole samples (arXiv 1603.09382)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0.0:
            return hidden_states
        keep = hidden_states.new_empty(hidden_states.shape[0], 1, 1, 1).bernoulli_(1 - self.rate)
        return hidden_states * keep / (1 - self.rate)


@cpu_forward(pointwise_linear, applies=is_float32)
class PointwiseLinear(nn.Conv2d):
    """A 1x1 convolution computed as the matrix product that it is.

    Where there are few positions and many channels, convolutions spend most of their time on re-laying out weights.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        tokens = hidden_states.permute(0, 2, 3, 1)  # (batch, height, width, channels)
        return nn.functional.linear(tokens, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


@cpu_forward(conv_feed_forward)
class ConvFeedForward(nn.Module):
    """7x7 depthwise convolution and batch norm, then two pointwise layers with an activation between them."""

    def __init__(self, config: FastViTHDConfig, channels: int, pointwise: type[nn.Conv2d] = nn.Conv2d):
        super().__init__()
        hidden_channels = int(channels * config.mlp_ratio)
        self.depthwise = FastViTHDConvNorm(
            config, in_channels=channels, out_channels=channels, kernel_size=7, padding=3, groups=channels
        )
        self.fc1 = starting_as(pointwise(channels, hidden_channels, 1), std=config.initializer_range)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = starting_as(pointwise(hidden_channels, channels, 1), std=config.initializer_range)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(self.depthwise(hidden_states))))


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention written out; the slow, obvious reference of the attention interface.

    Takes `(batch, heads, tokens, head_dim)` tensors; returns `(batch, tokens, heads, head_dim)` and the weights.
    """
    weights = (query * scaling) @ key.transpose(-2, -1)
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


@cpu_forward(self_attention, applies=is_sdpa)
class FastViTHDAttention(nn.Module):
    """Multi-head self-attention over all positions of a feature map."""

    is_causal = False

    def __init__(self, config: FastViTHDConfig, channels: int):
        super().__init__()
        self.config = config
        self.head_dim = config.attention_head_dim
        self.scaling = self.head_dim**-0.5
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        implementation = self.config._attn_implementation
        return self.attend(hidden_states, ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention))

    def attend(self, hidden_states: torch.Tensor, attention: Callable) -> tuple[torch.Tensor, torch.Tensor | None]:
        """From `(batch, tokens, channels)` to the same and the weights, by a function of the attention interface."""
        batch, tokens, channels = hidden_states.shape
        qkv = self.qkv(hidden_states).view(batch, tokens, 3, -1, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, tokens, head_dim)
        dropout = self.config.attention_dropout if self.training else 0.0
        output, weights = attention(
            self, query, key, value, None, scaling=self.scaling, dropout=dropout, is_causal=False
        )
        return self.proj(output.reshape(batch, tokens, channels)), weights


@cpu_forward(convolution_block)
class RepMixerBlock(GradientCheckpointingLayer):
    """Block of the convolutional stages."""

    def __init__(self, config: FastViTHDConfig, channels: int, drop_path_rate: float):
        super().__init__()
        self.token_mixer = RepMixer(config, channels)
        self.feed_forward = ConvFeedForward(config, channels)
        self.layer_scale = layer_scale(config, channels)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, None]:
        hidden_states = self.token_mixer(hidden_states)
        update = self.drop_path(self.feed_forward(hidden_states))
        return torch.addcmul(hidden_states, self.layer_scale, update), None


@cpu_forward(attention_block)
class AttentionBlock(GradientCheckpointingLayer):
    """Block of the attention stages."""

    def __init__(self, config: FastViTHDConfig, channels: int, drop_path_rate: float):
        super().__init__()
        self.norms_positions = config.attention_norm == "layer_norm"
        self.norm: nn.Module
        if self.norms_positions:
            self.norm = nn.LayerNorm(channels, eps=config.layer_norm_eps)
        else:
            self.norm = FastViTHDBatchNorm(config, channels)
        self.token_mixer = FastViTHDAttention(config, channels)
        self.feed_forward = ConvFeedForward(config, channels, pointwise=PointwiseLinear)
        self.layer_scale_1 = layer_scale(config, channels)
        self.layer_scale_2 = layer_scale(config, channels)
        self.drop_path = DropPath(drop_path_rate)

    def attend(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The normalised feature map through the token mixer, again as a feature map, and the attention weights."""
        batch, channels, height, width = hidden_states.shape
        if self.norms_positions:
            normed = self.norm(hidden_states.permute(0, 2, 3, 1))  # (batch, height, width, channels)
        else:
            normed = self.norm(hidden_states).permute(0, 2, 3, 1)
        attended, weights = self.token_mixer(normed.reshape(batch, -1, channels))  # (batch, tokens, channels)
        return attended.view(batch, height, width, channels).permute(0, 3, 1, 2), weights

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        attended, weights = self.attend(hidden_states)
        hidden_states = torch.addcmul(hidden_states, self.layer_scale_1, self.drop_path(attended))
        update = self.drop_path(self.feed_forward(hidden_states))
        return torch.addcmul(hidden_states, self.layer_scale_2, update), weights


class Downsampling(nn.Module):
    """Halves the resolution and changes the width between stages."""

    def __init__(self, config: FastViTHDConfig, in_channels: int, out_channels: int, squeeze_excite: bool):
        super().__init__()
        squeeze_channels = out_channels // 4 if squeeze_excite else None
        self.large_kernel = LargeKernelConv(config, in_channels, out_channels, squeeze_channels)
        self.pointwise = MobileOneBlock(config, out_channels, out_channels, kernel_size=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.large_kernel(hidden_states))


@cpu_forward(stem_in_strips)
class FastViTHDStem(nn.Sequential):
    """Three MobileOne blocks that take an image to a quarter of its resolution."""

    def __init__(self, config: FastViTHDConfig):
        width, scale_branch = config.hidden_sizes[0], config.stem_scale_branch
        super().__init__(
            MobileOneBlock(config, config.num_channels, width, 3, stride=2, scale_branch=scale_branch),
            MobileOneBlock(config, width, width, 3, stride=2, groups=width, scale_branch=scale_branch),
            MobileOneBlock(config, width, width, 1),
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return super().forward(pixel_values.contiguous(memory_format=torch.channels_last))


class FastViTHDStage(nn.Module):
    """Downsampling (except in the first stage), position encoding (in attention stages), blocks."""

    def __init__(self, config: FastViTHDConfig, index: int, drop_path_rates: list[float]):
        super().__init__()
        channels = config.hidden_sizes[index]
        self.downsampling: Downsampling | None = None
        if index > 0:
            squeeze_excite = index in config.squeeze_excite_stages
            self.downsampling = Downsampling(config, config.hidden_sizes[index - 1], channels, squeeze_excite)
        attention = config.token_mixers[index] == "attention"
        self.position_encoding = ConditionalPositionEncoding(config, channels) if attention else None
        block = AttentionBlock if attention else RepMixerBlock
        self.blocks = nn.ModuleList(block(config, channels, rate) for rate in drop_path_rates)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        if self.downsampling is not None:
            hidden_states = self.downsampling(hidden_states)
        if self.position_encoding is not None:
            hidden_states = self.position_encoding(hidden_states)
        attentions = []
        for block in self.blocks:
            hidden_states, weights = block(hidden_states)
            if weights is not None:
                attentions.append(weights)
        return hidden_states, attentions


# Here, so that it also holds where these files are used without the package, as remote code.
register_checkpoint_conversion_mapping(FastViTHDConfig.model_type, encoder_renamings(), overwrite=True)


class FastViTHDPreTrainedModel(CheckpointLoadingMixin, PreTrainedModel):
    """Base of the encoder's classes: loading, initialisation, and the stem and stages that they share."""

    config: FastViTHDConfig
    config_class = FastViTHDConfig
    base_model_prefix = "vision_tower"
    main_input_name = "pixel_values"
    input_modalities = "image"
    supports_gradient_checkpointing = True
    # The encoder is often taken out of a whole FastVLM.
    known_strangers: tuple[str, ...] = (
        r"^(model\.)?(language_model|multi_modal_projector|mm_projector|embed_tokens|layers|norm)\.",
        r"^lm_head\.",
        CLIP_HEAD,
    )
    _keys_to_ignore_on_load_unexpected = list(known_strangers)
    _no_split_modules = ["RepMixerBlock", "AttentionBlock", "MobileOneBlock", "Downsampling"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: FastViTHDConfig):
        super().__init__(config)
        self.stem = FastViTHDStem(config)
        rates = torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu").split(config.depths)
        self.stages = nn.ModuleList(
            FastViTHDStage(config, index, stage_rates.tolist()) for index, stage_rates in enumerate(rates)
        )

    def post_init(self) -> None:
        super().post_init()
        mark_as_built(*self.modules())
        keep_freed_memory()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            self._init_convolution(module)
        for name in ("layer_scale", "layer_scale_1", "layer_scale_2"):
            if isinstance(parameter := getattr(module, name, None), nn.Parameter):
                init.constant_(parameter, self.config.layer_scale_init_value)
        if isinstance(projection := getattr(module, "projection", None), nn.Parameter):
            init.normal_(projection, std=projection.shape[0] ** -0.5)

    def _init_convolution(self, conv: nn.Conv2d) -> None:
        std, identity = getattr(conv, "starts_as", (None, False))
        if std is None:
            init.kaiming_normal_(conv.weight)
        elif identity:
            kernel = identity_kernel(conv.out_channels, conv.groups, conv.kernel_size[0], conv.weight)
            init.copy_(conv.weight, kernel + std * torch.randn_like(conv.weight))
        else:
            init.normal_(conv.weight, std=std)

    def reparameterize(self):
        """Turn the training form into the inference form, in place. Does nothing to a model that is in it already.

        Eval-mode outputs stay the same up to rounding; fewer, larger operations make them about twice as fast. Batch
        norm statistics no longer move afterwards. There is no way back, so train first.

        Returns:
            the model itself.
        """
        for module in list(self.modules()):
            if isinstance(module, Reparameterizable):
                module.reparameterize()
            elif isinstance(module, FastViTHDBatchNorm):
                module.frozen = True
                module.eval()
        self.config.reparameterized = True
        return self

    def _check_pixels(self, pixel_values: torch.Tensor) -> None:
        raise_on_bad_pixels(pixel_values, self.config.num_channels, self.config.stride)

    def _stage_outputs(self, pixel_values: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Feature maps of the stem and of each stage, and the attention weights of each attention block."""
        hidden_states = self.stem(pixel_values.to(next(self.stem.parameters()).dtype))
        outputs, attentions = [hidden_states], []
        for stage in self.stages:
            hidden_states, stage_attentions = stage(hidden_states)
            outputs.append(hidden_states)
            attentions += stage_attentions
        return outputs, attentions


@cpu_forward(encoder_features, method="features", applies=runs_elsewhere_or_in_turn)
class FastViTHDModel(FastViTHDPreTrainedModel):
    """FastViTHD with the convolution whose output FastVLM reads and, if `config.projection_dim`, the CLIP head.

    `from_pretrained` takes the encoder out of any FastVLM checkpoint: own, original (`llava_qwen2`) or upstream
    (`fast_vlm`).
    """

    # Another way to `features` on CPUs, taken where their kernels are. Gives `None` for what it leaves to PyTorch.
    runtime: Callable[[torch.Tensor], torch.Tensor | None] | None = None

    def __init__(self, config: FastViTHDConfig):
        super().__init__(config)
        width, features = config.hidden_sizes[-1], config.hidden_size
        self.final_conv = MobileOneBlock(
            config, width, features, kernel_size=3, groups=width, squeeze_channels=features // 16
        )
        self.projection = nn.Parameter(torch.zeros(features, config.projection_dim)) if config.projection_dim else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FastViTHDModelOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(images, channels, height, width)`): RGB in 0..1; both sides
                divisible by `config.stride`. Converted to the weights' dtype.
            output_hidden_states (`bool`, *optional*): also return the stem's and every stage's feature map.
            output_attentions (`bool`, *optional*): also return attention weights (needs eager attention).

        Raises:
            ValueError: if the shape does not fit the encoder.
            FloatingPointError: if the features are not finite, on a CPU in eval mode or in float16.
        """
        self._check_pixels(pixel_values)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        outputs: list[torch.Tensor] = []
        attentions: list[torch.Tensor] = []
        if output_hidden_states or output_attentions:
            outputs, attentions = self._stage_outputs(pixel_values)
            features = self.final_conv(outputs[-1])
        else:
            features = self.features(pixel_values)
        raise_on_non_finite_features(features, self, pixel_values)
        pooled = features.mean((2, 3)) @ self.projection if self.projection is not None else None
        return FastViTHDModelOutput(
            last_hidden_state=features,
            pooler_output=pooled,
            hidden_states=tuple(outputs) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """From `(images, channels, height, width)` to `(images, hidden_size, height / stride, width / stride)`."""
        return self.pytorch_features(pixel_values)

    def pytorch_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`features` without `runtime`."""
        outputs, _ = self._stage_outputs(pixel_values)
        return self.final_conv(outputs[-1])


class FastViTHDBackbone(BackboneMixin, FastViTHDPreTrainedModel):
    """Feature maps of the stages in `config.out_features`, for detection, segmentation and the like."""

    known_strangers = (*FastViTHDPreTrainedModel.known_strangers, r"^final_conv\.")
    _keys_to_ignore_on_load_unexpected = list(known_strangers)

    def __init__(self, config: FastViTHDConfig):
        super().__init__(config)
        self.num_features = [config.hidden_sizes[0], *config.hidden_sizes]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BackboneOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(images, channels, height, width)`): RGB in 0..1.
            output_hidden_states (`bool`, *optional*): also return the stem's and every stage's feature map.
            output_attentions (`bool`, *optional*): also return attention weights (needs eager attention).
        """
        self._check_pixels(pixel_values)
        outputs, attentions = self._stage_outputs(pixel_values)
        selected = [output for name, output in zip(self.stage_names, outputs) if name in self.out_features]
        raise_on_non_finite_features(selected[-1], self, pixel_values)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        return BackboneOutput(
            feature_maps=tuple(selected),  # type: ignore[arg-type]
            hidden_states=tuple(outputs) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )


__all__ = ["FastViTHDBackbone", "FastViTHDModel", "FastViTHDModelOutput", "FastViTHDPreTrainedModel"]
