# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastViTHD's convolutional layers, each in a multi-branch training form and an equal single-convolution form.

All of them map `(batch, channels, height, width)` feature maps to feature maps.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from transformers.activations import ACT2FN, GELUActivation

from .configuration_fastvlm import FastViTHDConfig
from .reparameterization import Branch, add_branches, convolution_from, fuse_batch_norm, identity_kernel, pad_kernel

Conv = TypeVar("Conv", bound=nn.Conv2d)

# Positions of a feature map that are worked on at once on a CPU while no gradient is wanted. Fresh memory of tens of
# megabytes costs more to get from the system than to compute on; parts of this size are handed out again and again.
POSITIONS_AT_ONCE = 2048


def saves_memory(hidden_states: torch.Tensor) -> bool:
    """Whether to trade clarity for memory traffic: on CPUs, without gradients, and seen by no compiler or tracer."""
    if hidden_states.device.type != "cpu" or torch.is_grad_enabled():
        return False
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing())


def keep_freed_memory() -> None:
    """Keep the C library from giving memory back to the system that the next layer needs again.

    Getting it anew can cost half of an encoder's time. glibc keeps up to twice as much as the largest block, of at
    most 32 MiB, that it has seen freed; this shows it one, which nothing is written to.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def in_parts(
    function: Callable[[torch.Tensor], torch.Tensor], hidden_states: torch.Tensor, output: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply a function that works on each position by itself, part by part where that saves memory.

    Args:
        function: from `(batch, channels, height, width)` feature maps to such, of any height.
        hidden_states: a channels-last feature map.
        output: where to put the result, `hidden_states` itself allowed; by default a new feature map of its shape.
    """
    if not saves_memory(hidden_states):  # asked first: a compiler takes sizes that are compared for fixed
        return function(hidden_states)
    batch, channels, height, width = hidden_states.shape
    large = batch * height * width > POSITIONS_AT_ONCE
    if not (large and hidden_states.is_contiguous(memory_format=torch.channels_last)):
        return function(hidden_states)
    output = torch.empty_like(hidden_states) if output is None else output
    rows = max(1, POSITIONS_AT_ONCE // width)
    # All images of the batch below each other, (1, channels, batch * height, width).
    parts, results = (
        tensor.permute(0, 2, 3, 1).view(1, batch * height, width, channels).permute(0, 3, 1, 2).split(rows, dim=2)
        for tensor in (hidden_states, output)
    )
    for part, result in zip(parts, results):
        result.copy_(function(part))
    return output


def add_scaled(hidden_states: torch.Tensor, scale: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    """`hidden_states + scale * update`, where that saves memory in the place of `update`."""
    output = update if saves_memory(update) else None
    return torch.addcmul(hidden_states, scale, update, out=output)


def linear(hidden_states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear`, in float32 on CPUs without gradients by oneDNN.

    PyTorch takes MKL there, which leaves more than half the speed of other makers' processors unused.
    """
    if hidden_states.dtype == torch.float32 and saves_memory(hidden_states) and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(hidden_states, weight, bias, "none", [], "")
    return nn.functional.linear(hidden_states, weight, bias)


def activate(activation: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """Apply an elementwise function to a channels-last feature map, seen as the contiguous tensor it is in memory.

    On CPUs, PyTorch's kernels take half as long on that. Without gradients, `hidden_states` may be overwritten.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return activation(hidden_states)
    if isinstance(activation, GELUActivation) and saves_memory(hidden_states):
        torch.ops.aten.gelu_(hidden_states.permute(0, 2, 3, 1))
        return hidden_states
    return in_parts(
        lambda part: activation(part.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), hidden_states, hidden_states
    )


def starting_as(conv: Conv, std: float, identity: bool = False) -> Conv:
    """Note on a convolution how `_init_weights` is to fill it: with noise of `std`, around the identity if asked to.

    transformers hands `_init_weights` only modules with parameters of their own, so the module around a convolution
    cannot fill it.
    """
    conv.starts_as = std, identity  # type: ignore[assignment]
    return conv


class FastViTHDBatchNorm(nn.BatchNorm2d):
    """Batch norm whose running statistics stay as they are, also under `train()`, once the model is reparameterized.

    The inference form keeps a few batch norms. Its convolutions were fused with statistics of the training data, so
    normalising one of them by a batch again, or moving its averages, would change the function they were fused for.

    In the training form, gradient checkpointing runs a block twice per step, so its averages move twice as far.
    """

    def __init__(self, config: FastViTHDConfig, channels: int):
        super().__init__(channels, eps=config.batch_norm_eps)
        self.frozen = config.reparameterized
        self.train()

    def train(self, mode: bool = True):
        return super().train(mode and not self.frozen)


class FastViTHDConvNorm(nn.Module):
    """Bias-free convolution and batch norm, a branch of the training form."""

    def __init__(self, config: FastViTHDConfig, **geometry: int):
        super().__init__()
        self.conv = nn.Conv2d(**geometry, bias=False)  # type: ignore[arg-type]
        self.norm = FastViTHDBatchNorm(config, geometry["out_channels"])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.norm.training or not saves_memory(hidden_states):
            return self.norm(self.conv(hidden_states))
        kernel, bias = self.branch()  # far smaller than the feature map
        dtype, conv = self.conv.weight.dtype, self.conv
        return nn.functional.conv2d(
            hidden_states, kernel.to(dtype), bias.to(dtype), conv.stride, conv.padding, groups=conv.groups
        )

    def branch(self) -> Branch:
        return fuse_batch_norm(self.conv.weight, self.norm)


class Reparameterizable(nn.Module):
    """A linear map with a training form, given by the subclass, and an inference form, the one convolution `conv`."""

    branch_names: tuple[str, ...] = ()

    holds_skip = False  # whether the single convolution contains a skip connection

    def __init__(
        self, config: FastViTHDConfig, in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int
    ):
        super().__init__()
        self.geometry = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": kernel_size // 2,
            "groups": groups,
        }
        self.conv: nn.Conv2d | None
        conv = nn.Conv2d(**self.geometry, bias=True) if config.reparameterized else None  # type: ignore[arg-type]
        if conv is not None and self.holds_skip:  # without it, depth would drown the signal
            starting_as(conv, config.initializer_range, identity=True)
        self.register_module("conv", conv)

    def sum_of_branches(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The training form's output."""
        raise NotImplementedError

    def branch(self) -> Branch:
        """Kernel and bias of the single convolution that equals the training form."""
        raise NotImplementedError

    def linear(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.conv(hidden_states) if self.conv is not None else self.sum_of_branches(hidden_states)

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Replace the training form's branches by the one convolution that equals them in eval mode."""
        if self.conv is None:
            dtype = next(self.parameters()).dtype
            self.conv = convolution_from(self.branch(), dtype, **self.geometry)
            for name in self.branch_names:
                delattr(self, name)


class SqueezeExcite(nn.Module):
    """Channel gates from the mean over all positions (arXiv 1709.01507)."""

    def __init__(self, config: FastViTHDConfig, channels: int, squeeze_channels: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeeze_channels, 1)
        # Gates start near one half: random ones can shut for good before anything is learnt behind them.
        self.expand = starting_as(nn.Conv2d(squeeze_channels, channels, 1), std=config.initializer_range / 10)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        gates = hidden_states.mean((2, 3), keepdim=True)  # (batch, channels, 1, 1)
        gates = self.expand(nn.functional.relu(self.reduce(gates)))
        return hidden_states * gates.sigmoid()


class ActivatedConv(Reparameterizable):
    """A convolution with squeeze-excite, if `squeeze_channels` is given, and an activation behind it."""

    def __init__(self, config: FastViTHDConfig, *geometry: int, squeeze_channels: int | None):
        super().__init__(config, *geometry)
        out_channels = self.geometry["out_channels"]
        self.squeeze_excite = (
            SqueezeExcite(config, out_channels, squeeze_channels) if squeeze_channels else nn.Identity()
        )
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return activate(self.activation, self.squeeze_excite(self.linear(hidden_states)))


class MobileOneBlock(ActivatedConv):
    """MobileOne block (arXiv 2206.04040): convolution, 1x1 scale and skip branches, squeeze-excite, activation."""

    branch_names = ("conv_branch", "scale_branch", "skip_branch")

    def __init__(
        self,
        config: FastViTHDConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        scale_branch: bool = True,
        squeeze_channels: int | None = None,
    ):
        geometry = in_channels, out_channels, kernel_size, stride, groups
        super().__init__(config, *geometry, squeeze_channels=squeeze_channels)
        if self.conv is None:
            has_skip = in_channels == out_channels and stride == 1
            has_scale = scale_branch and kernel_size > 1
            pointwise = {**self.geometry, "kernel_size": 1, "padding": 0, "stride": 1}
            self.conv_branch = FastViTHDConvNorm(config, **self.geometry)
            self.scale_branch = FastViTHDConvNorm(config, **pointwise) if has_scale else None
            self.skip_branch = FastViTHDBatchNorm(config, in_channels) if has_skip else None

    def sum_of_branches(self, hidden_states: torch.Tensor) -> torch.Tensor:
        output = self.conv_branch(hidden_states)
        if self.scale_branch is not None:
            # The stride is taken beforehand: oneDNN crashes in the backward of strided 1x1 channels-last convolutions.
            stride = self.geometry["stride"]
            output = output + self.scale_branch(hidden_states[:, :, ::stride, ::stride])
        if self.skip_branch is not None:
            output = output + self.skip_branch(hidden_states)
        return output

    def branch(self) -> Branch:
        kernel_size = self.geometry["kernel_size"]
        kernel, bias = self.conv_branch.branch()
        branches = [(kernel, bias)]
        if self.scale_branch is not None:
            scale_kernel, scale_bias = self.scale_branch.branch()
            branches.append((pad_kernel(scale_kernel, kernel_size), scale_bias))
        if self.skip_branch is not None:
            identity = identity_kernel(kernel.shape[0], self.geometry["groups"], kernel_size, like=kernel)
            branches.append(fuse_batch_norm(identity, self.skip_branch))
        return add_branches(branches)


class LargeKernelConv(ActivatedConv):
    """7x7 convolution with stride 2 and, in the training form, a 3x3 branch beside it (RepLKNet, arXiv 2203.06717)."""

    branch_names = ("large_branch", "small_branch")

    def __init__(self, config: FastViTHDConfig, in_channels: int, out_channels: int, squeeze_channels: int | None):
        super().__init__(config, in_channels, out_channels, 7, 2, in_channels, squeeze_channels=squeeze_channels)
        if self.conv is None:
            small = {**self.geometry, "kernel_size": 3, "padding": 1}
            self.large_branch = FastViTHDConvNorm(config, **self.geometry)
            self.small_branch = FastViTHDConvNorm(config, **small)

    def linear(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.conv is None or not saves_memory(hidden_states) or self.conv.out_channels != 2 * self.conv.groups:
            return super().linear(hidden_states)
        # Two outputs per input: oneDNN takes a seventh of the time for each as a depthwise convolution.
        conv, halves = self.conv, []
        assert conv.bias is not None
        for weight, bias in ((conv.weight[half::2], conv.bias[half::2]) for half in (0, 1)):
            half = nn.functional.conv2d(hidden_states, weight, bias, conv.stride, conv.padding, groups=conv.groups)
            halves.append(half.permute(0, 2, 3, 1))  # (batch, height, width, channels / 2)
        return torch.stack(halves, dim=-1).flatten(3).permute(0, 3, 1, 2)  # channels of both halves in turn

    def sum_of_branches(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.large_branch(hidden_states) + self.small_branch(hidden_states)

    def branch(self) -> Branch:
        small_kernel, small_bias = self.small_branch.branch()
        return add_branches([self.large_branch.branch(), (pad_kernel(small_kernel, 7), small_bias)])


class RepMixer(Reparameterizable):
    """Token mixer of the convolutional stages (FastViT, arXiv 2303.14189, section 3.1): depthwise 3x3 with a skip.

    Training form: `x + scale * (mix(x) - norm(x))`, where `mix` has the branches of a MobileOne block.
    """

    branch_names = ("conv_branch", "scale_branch", "skip_branch", "norm", "layer_scale")
    holds_skip = True

    def __init__(self, config: FastViTHDConfig, channels: int):
        super().__init__(config, channels, channels, kernel_size=3, stride=1, groups=channels)
        if self.conv is None:
            pointwise = {**self.geometry, "kernel_size": 1, "padding": 0}
            self.conv_branch = FastViTHDConvNorm(config, **self.geometry)
            self.scale_branch = FastViTHDConvNorm(config, **pointwise)
            self.skip_branch = FastViTHDBatchNorm(config, channels)
            self.norm = FastViTHDBatchNorm(config, channels)
            self.layer_scale = layer_scale(config, channels)

    def sum_of_branches(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mixed = self.conv_branch(hidden_states) + self.scale_branch(hidden_states) + self.skip_branch(hidden_states)
        return hidden_states + self.layer_scale * (mixed - self.norm(hidden_states))

    def branch(self) -> Branch:
        kernel, bias = self.conv_branch.branch()
        scale_kernel, scale_bias = self.scale_branch.branch()
        identity = identity_kernel(kernel.shape[0], kernel.shape[0], 3, like=kernel)
        norm_kernel, norm_bias = fuse_batch_norm(identity, self.norm)
        mixed_kernel, mixed_bias = add_branches(
            [(kernel, bias), (pad_kernel(scale_kernel, 3), scale_bias), fuse_batch_norm(identity, self.skip_branch)]
        )
        scale = self.layer_scale.flatten()  # (channels,)
        return identity + scale.view(-1, 1, 1, 1) * (mixed_kernel - norm_kernel), scale * (mixed_bias - norm_bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.linear(hidden_states)


class ConditionalPositionEncoding(Reparameterizable):
    """Position encoding by a 7x7 depthwise convolution with a skip (arXiv 2102.10882), before attention stages."""

    branch_names = ("conv_branch",)
    holds_skip = True

    def __init__(self, config: FastViTHDConfig, channels: int):
        super().__init__(config, channels, channels, kernel_size=7, stride=1, groups=channels)
        if self.conv is None:
            self.conv_branch = nn.Conv2d(**self.geometry)  # type: ignore[arg-type]

    def sum_of_branches(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.conv_branch(hidden_states)

    def branch(self) -> Branch:
        kernel, bias = self.conv_branch.weight, self.conv_branch.bias
        assert bias is not None
        return identity_kernel(kernel.shape[0], kernel.shape[0], 7, like=kernel) + kernel, bias

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.linear(hidden_states)


def layer_scale(config: FastViTHDConfig, channels: int) -> nn.Parameter:
    """Learned factor per channel of a residual branch, `(channels, 1, 1)` (CaiT, arXiv 2103.17239)."""
    return nn.Parameter(torch.full((channels, 1, 1), config.layer_scale_init_value))
