"""Each function against the slow, obvious version: run the branches and add up."""

import pytest
import torch
from torch import nn

from transformers_fastvlm.layers_fastvithd import (
    add_branches,
    convolution_from,
    fuse_batch_norm,
    identity_kernel,
    pad_kernel,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(channels: int) -> torch.Tensor:
    return torch.randn(2, channels, 9, 7, dtype=torch.float64)


def random_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).double().eval()
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm


@pytest.mark.parametrize(("groups", "kernel_size"), [(1, 3), (2, 3), (6, 7), (6, 1)])
def test_identity_kernel_is_the_identity(groups, kernel_size):
    x = images(6)
    kernel = identity_kernel(6, groups, kernel_size, like=x)
    assert kernel.dtype == x.dtype
    torch.testing.assert_close(nn.functional.conv2d(x, kernel, padding=kernel_size // 2, groups=groups), x)


@pytest.mark.parametrize(("small", "large"), [(1, 3), (3, 7), (7, 7)])
def test_padded_kernel_convolves_alike(small, large):
    x, kernel = images(4), torch.randn(5, 4, small, small, dtype=torch.float64)
    expected = nn.functional.conv2d(x, kernel, padding=small // 2)
    padded = pad_kernel(kernel, large)
    assert padded.shape[-2:] == (large, large)
    torch.testing.assert_close(nn.functional.conv2d(x, padded, padding=large // 2), expected)


def test_fused_batch_norm_equals_convolution_then_norm():
    x, kernel, norm = images(4), torch.randn(6, 4, 3, 3, dtype=torch.float64), random_norm(6)
    expected = norm(nn.functional.conv2d(x, kernel, padding=1))
    fused_kernel, bias = fuse_batch_norm(kernel, norm)
    torch.testing.assert_close(nn.functional.conv2d(x, fused_kernel, bias, padding=1), expected)


def test_batch_norm_is_fused_in_float32_at_least():
    kernel, bias = fuse_batch_norm(torch.randn(6, 4, 3, 3, dtype=torch.bfloat16), random_norm(6).bfloat16())
    assert kernel.dtype == bias.dtype == torch.float32


def test_batch_norm_without_statistics_is_refused():
    with pytest.raises(ValueError, match="running statistics"):
        fuse_batch_norm(torch.ones(6, 4, 3, 3), nn.BatchNorm2d(6, track_running_stats=False))


def test_sum_of_branches_as_one_convolution():
    x = images(4)
    branches = [(torch.randn(4, 1, 3, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)) for _ in range(3)]
    expected = sum(nn.functional.conv2d(x, kernel, bias, stride=2, padding=1, groups=4) for kernel, bias in branches)
    convolution = convolution_from(
        add_branches(branches),
        torch.float64,
        in_channels=4,
        out_channels=4,
        kernel_size=3,
        stride=2,
        padding=1,
        groups=4,
    )
    torch.testing.assert_close(convolution(x), expected)
    assert all(parameter.requires_grad for parameter in convolution.parameters())
