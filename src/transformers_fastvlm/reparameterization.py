# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""From the multi-branch training form to the single-convolution inference form, as functions on weights.

Structural reparameterization: parallel linear branches of one input add up to one linear map, and a batch norm with
frozen statistics is an affine map per channel (RepVGG, arXiv 2101.03697; MobileOne, arXiv 2206.04040; FastViT, arXiv
2303.14189, section 3.1). A branch is a pair `(kernel, bias)` with shapes `(out, in / groups, k, k)` and `(out,)`.
"""

import torch
from torch import nn

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


def convolution_from(branch: Branch, dtype: torch.dtype, **geometry: int) -> nn.Conv2d:
    """A biased `nn.Conv2d` with the weights of `branch` and the given channels, kernel size, stride, and so on."""
    kernel, bias = branch
    convolution = nn.Conv2d(**geometry, bias=True, device="meta")  # type: ignore[arg-type]
    convolution.weight = nn.Parameter(kernel.detach().to(dtype).contiguous())
    convolution.bias = nn.Parameter(bias.detach().to(dtype).contiguous())
    return convolution
