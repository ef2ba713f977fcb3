"""Linear layers for answering: packed ones against PyTorch's, 8-bit ones against the same arithmetic written out."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from transformers_fastvlm.inference import Int8Linear, PackedLinear
from transformers_fastvlm.inference.linear_layers import int8_is_fast, packing_is_fast, quantize_rows

pytestmark = pytest.mark.usefixtures("nan_in_uninitialized_memory")

needs_vnni = pytest.mark.skipif(not int8_is_fast(), reason="int8 layers are for CPUs with VNNI instructions")
KINDS = [PackedLinear, pytest.param(Int8Linear, marks=needs_vnni)]


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, 50)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_give_the_same_numbers(dtype, shape, bias):
    if not packing_is_fast(dtype):
        pytest.skip(f"oneDNN has no {dtype} kernels for this CPU")
    torch.manual_seed(0)
    linear, tokens = nn.Linear(64, 96, bias=bias, dtype=dtype), torch.randn(*shape, 64, dtype=dtype)
    output, expected = PackedLinear(linear)(tokens), linear(tokens)
    assert output.dtype == dtype
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(output, expected, **tolerance)


def test_packed_layers_are_saved_as_plain_ones():
    linear = nn.Linear(64, 96)
    saved = nn.Sequential(PackedLinear(linear)).state_dict()
    assert saved.keys() == {"0.weight", "0.bias"}
    assert torch.equal(saved["0.weight"], linear.weight) and torch.equal(saved["0.bias"], linear.bias)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_give_the_same_and_gradients_are_an_error(kind):
    layer, tokens = kind(nn.Linear(64, 96)), torch.randn(2, 64)
    assert torch.equal(copy.deepcopy(layer)(tokens), layer(tokens))
    with pytest.raises(RuntimeError, match="no gradients after `optimize_for_inference`"):
        layer(tokens.requires_grad_())


def written_out(linear: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
    weights, weight_scales = quantize_rows(linear.weight.detach())
    levels, scales = quantize_rows(tokens)
    output = (levels.double() @ weights.double().T) * scales.double() * weight_scales.double().T
    return output if linear.bias is None else output + linear.bias.detach().double()


@needs_vnni
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, 50)])
def test_integers_are_multiplied_exactly(shape, bias):
    torch.manual_seed(0)
    linear = nn.Linear(64, 96, bias=bias)
    tokens = torch.randn(*shape, 64) * torch.logspace(-3, 3, shape[1])[:, None]  # every token has a range of its own
    output = Int8Linear(linear)(tokens)
    expected = written_out(linear, tokens.view(-1, 64)).view(*shape, 96)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@needs_vnni
@torch.no_grad()
def test_rounding_costs_less_than_a_percent():
    torch.manual_seed(0)
    linear, tokens = nn.Linear(256, 512), torch.randn(40, 256)
    expected = linear(tokens)
    for dtype in (torch.float32, torch.bfloat16):
        output = Int8Linear(linear)(tokens.to(dtype))
        assert output.dtype == dtype
        assert 0 < (output.float() - expected).norm() / expected.norm() < 0.012


@needs_vnni
def test_zeros_stay_zeros():
    linear = nn.Linear(64, 32, bias=False)
    assert not Int8Linear(linear)(torch.zeros(2, 64)).any()


@needs_vnni
def test_8_bit_layers_cannot_be_saved():
    with pytest.raises(RuntimeError, match="cannot be saved"):
        nn.Sequential(Int8Linear(nn.Linear(64, 32))).state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_get_their_own_tokens(kind):
    torch.manual_seed(0)
    layer = kind(nn.Linear(64, 96))
    tokens = [torch.randn(1, 1 + call % 3, 64) for call in range(200)]
    with torch.no_grad():
        expected = [layer(each) for each in tokens]

    def multiply(each: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return layer(each)

    with ThreadPoolExecutor(8) as pool:
        assert all(torch.equal(*pair) for pair in zip(pool.map(multiply, tokens), expected))
