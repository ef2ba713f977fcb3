# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastViTHD's convolutional layers, each in a multi-branch training form and an equal single-convolution form.

All of them map `(batch, channels, height, width)` feature maps to feature maps.

Structural reparameterization leads from the one form to the other: parallel linear branches of one input add up to one
linear map, and a batch norm with frozen statistics is an affine map per channel (RepVGG, arXiv 2101.03697; MobileOne,
arXiv 2206.04040; FastViT, arXiv 2303.14189, section 3.1). A branch is a pair `(kernel, bias)` with shapes
`(out, in / groups, k, k)` and `(out,)`.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_fastvlm import FastViTHDConfig
from .cpu_kernels import activated_conv, conv_norm, cpu_forward, mark_as_built

Conv = TypeVar("Conv", bound=nn.Conv2d)
Branch = tuple[torch.Tensor, torch.Tensor]


def identity_kernel(channels: int, groups: int, kernel_size: int, like: torch.Tensor) -> torch.Tensor:
    """Kernel `(channels, channels / groups, k, k)` of the identity, with the dtype and device of `like`."""
    per_group = channels // groups
    kernel = like.new_zeros(channels, per_group, kernel_size, kernel_size)
    rows = torch.arange(channels, device=like.device)
    kernel[rows, rows % per_group, kernel_size // 2, kernel_size // 2] = 1
    return kernel


def pad_kernel(kernel: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """Surround an odd-sized kernel by zeros up to `kernel_size`, which leaves its convolution unchanged."""
    margin = (kernel_size - kernel.shape[-1]) // 2
    return nn.functional.pad(kernel, [margin] * 4)


def fuse_batch_norm(kernel: torch.Tensor, norm: nn.BatchNorm2d) -> Branch:
    """Fold the running statistics and affine parameters of `norm` into the bias-free convolution before it.

    Computes in float32 at least, since the quotient of two rounded numbers would be rounded twice.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("A batch norm without running statistics cannot be folded into a convolution.")
    dtype = torch.promote_types(kernel.dtype, torch.float32)
    gain = norm.weight.to(dtype) / torch.sqrt(norm.running_var.to(dtype) + norm.eps)  # (out,)
    return kernel.to(dtype) * gain.view(-1, 1, 1, 1), norm.bias.to(dtype) - norm.running_mean.to(dtype) * gain


def add_branches(branches: list[Branch]) -> Branch:
    """Sum of parallel branches with kernels of one size."""
    kernels, biases = zip(*branches)
    return torch.stack(kernels).sum(0), torch.stack(biases).sum(0)


class DepthwiseParts(nn.Conv2d):
    """A convolution with one input and several outputs per group, computed as that many depthwise convolutions.

    Its weights and numbers are those of the one convolution, for which libraries lack good kernels: oneDNN takes seven
    times as long for it, cuDNN in bfloat16 four times (on an H100).
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        parts = self.parts(input, weight, bias)
        # (batch, height, width, channels / parts) each, whose channels come in turn
        return torch.stack([part.permute(0, 2, 3, 1) for part in parts], dim=-1).flatten(3).permute(0, 3, 1, 2)

    def parts(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> list[torch.Tensor]:
        """Of each depthwise convolution, the output: `(batch, channels / parts, height, width)`."""
        count = self.out_channels // self.groups
        return [
            nn.functional.conv2d(
                input,
                weight[part::count],
                None if bias is None else bias[part::count],
                self.stride,
                self.padding,
                groups=self.groups,
            )
            for part in range(count)
        ]


def conv2d(geometry: Mapping[str, int], bias: bool, device: str | None = None) -> nn.Conv2d:
    """A convolution of these channels, groups, kernel size, stride and padding."""
    one_input = 1 < geometry["groups"] == geometry["in_channels"]
    has_parts = one_input and geometry["out_channels"] > geometry["in_channels"]
    return (DepthwiseParts if has_parts else nn.Conv2d)(**geometry, bias=bias, device=device)  # type: ignore[arg-type]


def convolution_from(branch: Branch, dtype: torch.dtype, **geometry: int) -> nn.Conv2d:
    """A biased convolution with the weights of `branch` and the given channels, kernel size, stride, and so on."""
    kernel, bias = branch
    conv = conv2d(geometry, bias=True, device="meta")
    conv.weight = nn.Parameter(kernel.detach().to(dtype).contiguous())
    conv.bias = nn.Parameter(bias.detach().to(dtype).contiguous())
    return conv


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


@cpu_forward(conv_norm)
class FastViTHDConvNorm(nn.Module):
    """Bias-free convolution and batch norm, a branch of the training form."""

    def __init__(self, config: FastViTHDConfig, **geometry: int):
        super().__init__()
        self.conv = conv2d(geometry, bias=False)
        self.norm = FastViTHDBatchNorm(config, geometry["out_channels"])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(hidden_states))

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
        conv = conv2d(self.geometry, bias=True) if config.reparameterized else None
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
            mark_as_built(self, self.conv)


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
        return self.activation(self.squeeze_excite(self.linear(hidden_states)))


@cpu_forward(activated_conv)
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


@cpu_forward(activated_conv)
class LargeKernelConv(ActivatedConv):
    """7x7 convolution with stride 2 and, in the training form, a 3x3 branch beside it (RepLKNet, arXiv 2203.06717)."""

    branch_names = ("large_branch", "small_branch")

    def __init__(self, config: FastViTHDConfig, in_channels: int, out_channels: int, squeeze_channels: int | None):
        super().__init__(config, in_channels, out_channels, 7, 2, in_channels, squeeze_channels=squeeze_channels)
        if self.conv is None:
            small = {**self.geometry, "kernel_size": 3, "padding": 1}
            self.large_branch = FastViTHDConvNorm(config, **self.geometry)
            self.small_branch = FastViTHDConvNorm(config, **small)

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
