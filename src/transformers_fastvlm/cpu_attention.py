# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Softmax attention on CPUs as matrix products of blocks that fit into the caches.

In bfloat16 this takes about half the time of PyTorch's CPU kernel, a tenth of it for the single query of decoding
over many keys; in float32 that kernel is faster.
"""

import torch

_SCORES_AT_ONCE = 6 * 2**20  # 12 MiB in bfloat16, which stay in the last cache between the two products
_CAUSAL_QUERIES_AT_ONCE = 128  # the fewer, the less is computed above the diagonal


def suits_cpu_attention(query: torch.Tensor) -> bool:
    """Whether `cpu_attention` can take the place of PyTorch's kernel, and is faster."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and not (torch.is_grad_enabled() and query.requires_grad)
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def cpu_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, is_causal: bool = False
) -> torch.Tensor:
    """
    Softmax attention without a mask or gradients; rounds as `(query @ key.T).softmax(-1) @ value` does.

    Args:
        query: `(batch, heads, tokens, head_dim)`.
        key: `(batch, key_heads, keys, head_dim)`; each head serves `heads / key_heads` neighbouring heads of `query`.
        value: as `key`.
        scaling: of the products.
        is_causal: each query sees the keys up to its own position; `tokens` and `keys` are equal then.

    Returns:
        `(batch, tokens, heads, head_dim)`.
    """
    batch, heads, tokens, head_dim = query.shape
    key_heads, keys = key.shape[1:3]
    group = heads // key_heads
    rows = min(tokens, _CAUSAL_QUERIES_AT_ONCE if is_causal else max(1, _SCORES_AT_ONCE // (group * keys)))
    heads_at_once = max(1, _SCORES_AT_ONCE // (group * rows * keys))
    queries = query.unflatten(1, (key_heads, group))
    output = query.new_empty(batch, tokens, key_heads, group, head_dim)
    for image in range(batch):
        for head in range(0, key_heads, heads_at_once):
            here = slice(head, head + heads_at_once)
            blocks = queries[image, here], key[image, here], value[image, here]
            _attend(*blocks, output[image, :, here].permute(1, 2, 0, 3), rows, scaling, is_causal)
    return output.view(batch, tokens, heads, head_dim)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    rows: int,
    scaling: float,
    is_causal: bool,
) -> None:
    """Write to `output` what `(key_heads, group, tokens, head_dim)` queries find, `rows` of them at a time."""
    heads, group, tokens, head_dim = query.shape
    keys = key.transpose(1, 2)  # (key_heads, head_dim, keys)
    memory = query.new_empty(heads * group * rows * keys.shape[2])
    for start in range(0, tokens, rows):
        end = min(start + rows, tokens)
        seen = end if is_causal else keys.shape[2]
        block = query[:, :, start:end].reshape(heads, -1, head_dim)
        scores = memory[: heads * block.shape[1] * seen].view(heads, -1, seen)
        torch.baddbmm(scores, block, keys[:, :, :seen], beta=0, alpha=scaling, out=scores)
        if is_causal:
            later = query.new_full((end - start, end - start), float("-inf")).triu_(1)
            scores.view(heads, group, -1, seen)[..., start:].add_(later)
        torch.softmax(scores, -1, out=scores)
        output[:, :, start:end] = torch.bmm(scores, value[:, :seen]).view(heads, group, -1, head_dim)
