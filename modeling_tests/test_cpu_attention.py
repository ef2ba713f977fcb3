"""Attention by matrix products, against PyTorch's in float64 and beside eager attention's rounding."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from transformers_fastvlm import cpu_attention as module
from transformers_fastvlm.cpu_attention import cpu_attention, suits_cpu_attention

pytestmark = pytest.mark.usefixtures("nan_in_uninitialized_memory")


def tensors(batch, heads, key_heads, tokens, keys, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = [(batch, tokens, heads, 32), (batch, keys, key_heads, 32), (batch, keys, key_heads, 32)]
    return [torch.randn(shape, dtype=torch.float64).to(dtype).transpose(1, 2) for shape in shapes]


def expected(query, key, value, is_causal):
    group = query.shape[1] // key.shape[1]
    key, value = (tensor.double().repeat_interleave(group, 1) for tensor in (key, value))
    return scaled_dot_product_attention(query.double(), key, value, is_causal=is_causal, scale=0.2).transpose(1, 2)


@torch.no_grad()
@pytest.mark.parametrize("scores_at_once", [1, 3000, 2**22])  # single queries; a few of them or heads; everything
@pytest.mark.parametrize(
    ("shape", "is_causal"),
    [
        ((1, 6, 6, 64, 64), False),
        ((3, 6, 2, 33, 33), False),
        ((2, 6, 2, 1, 150), False),
        ((1, 14, 2, 300, 300), True),
        ((2, 4, 4, 129, 129), True),
    ],
)
def test_it_is_attention_whatever_the_blocks(monkeypatch, shape, is_causal, scores_at_once):
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", scores_at_once)
    query, key, value = tensors(*shape)
    output = cpu_attention(query, key, value, 0.2, is_causal)
    assert output.is_contiguous()
    torch.testing.assert_close(output, expected(query, key, value, is_causal), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_it_rounds_no_worse_than_attention_written_out():
    query, key, value = tensors(2, 6, 6, 200, 200, torch.bfloat16)
    exact = expected(query, key, value, False)
    written_out = ((query @ key.transpose(-2, -1) * 0.2).softmax(-1) @ value).transpose(1, 2)
    error, its_error = ((output - exact).norm() for output in (cpu_attention(query, key, value, 0.2), written_out))
    assert error <= its_error
    assert error < 0.01 * exact.norm()


def test_it_is_for_bfloat16_on_cpus_without_gradients():
    query = torch.randn(1, 2, 3, 32, dtype=torch.bfloat16)
    assert suits_cpu_attention(query)
    assert not suits_cpu_attention(query.float())
    assert not suits_cpu_attention(query.to("meta"))
    query.requires_grad_()
    assert not suits_cpu_attention(query)
    with torch.no_grad():
        assert suits_cpu_attention(query)
