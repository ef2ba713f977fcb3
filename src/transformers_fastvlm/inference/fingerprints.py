# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Digests of weights: what is kept of an encoder's work is of use as long as these are the same."""

import hashlib
import json
from typing import Any

import torch
from torch import nn

_LENGTH = 32  # hexadecimal digits, 128 bits


def fingerprint(described: Any, module: nn.Module, *others: torch.Tensor) -> str:
    """
    A digest of a module's weights, of what else a result depends on, and of further tensors.

    Args:
        described: of what JSON has, or what `str` tells apart.
        module: whose tensors count, by their bytes.
        *others: count with their shape, as float32.
    """
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    for tensor in others:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:_LENGTH]


__all__ = ["fingerprint"]
