"""Linear layers in 8-bit integers, against the same arithmetic written out."""

import pytest
import torch
from torch import nn

from transformers_fastvlm.inference import Int8Linear
from transformers_fastvlm.inference.int8_linear import int8_is_fast, quantize_rows

if not int8_is_fast():
    pytest.skip("int8 layers are for CPUs with VNNI instructions, which this one lacks", allow_module_level=True)


def written_out(linear: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
    weights, weight_scales = quantize_rows(linear.weight.detach())
    levels, scales = quantize_rows(tokens)
    output = (levels.double() @ weights.double().T) * scales.double() * weight_scales.double().T
    return output if linear.bias is None else output + linear.bias.detach().double()


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


@torch.no_grad()
def test_rounding_costs_less_than_a_percent():
    torch.manual_seed(0)
    linear, tokens = nn.Linear(256, 512), torch.randn(40, 256)
    expected = linear(tokens)
    for dtype in (torch.float32, torch.bfloat16):
        output = Int8Linear(linear)(tokens.to(dtype))
        assert output.dtype == dtype
        assert 0 < (output.float() - expected).norm() / expected.norm() < 0.012


def test_zeros_stay_zeros():
    linear = nn.Linear(64, 32, bias=False)
    assert not Int8Linear(linear)(torch.zeros(2, 64)).any()


def test_it_cannot_be_saved():
    with pytest.raises(RuntimeError, match="cannot be saved"):
        nn.Sequential(Int8Linear(nn.Linear(64, 32))).state_dict()
