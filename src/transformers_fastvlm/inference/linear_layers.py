# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Linear layers for answering on CPUs, through oneDNN's kernels in PyTorch."""

import copy
from typing import Any, NoReturn

import torch
from torch import nn

_MIDDLE = 128  # of the unsigned levels that stand for activations


def packing_is_fast(dtype: torch.dtype) -> bool:
    """Whether oneDNN has kernels for this dtype on this machine."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def int8_is_fast() -> bool:
    """Whether this machine multiplies 8-bit integers faster than floating point numbers, and exactly."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()


class CpuLinear(nn.Module):
    """
    A linear layer whose weights are laid out for the processor, and never change.

    Args:
        linear: the layer to take the place of; its weights are not kept.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """
        From `(..., in_features)` to `(..., out_features)`, in the dtype of the input.

        Raises:
            RuntimeError: if gradients are asked for.
        """
        if torch.is_grad_enabled() and hidden_states.requires_grad:
            raise RuntimeError("There are no gradients after `optimize_for_inference`: train before that call.")
        return self.multiply(hidden_states)

    def multiply(self, hidden_states: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def __deepcopy__(self, memo: dict) -> "CpuLinear":
        return copy.copy(self)  # its tensors are opaque, and may be shared


class PackedLinear(CpuLinear):
    """
    Weights in oneDNN's layout, which `nn.Linear` makes anew at every call.

    In bfloat16 it gives the numbers of `nn.Linear` bit by bit, in float32 up to the order of sums; there it is several
    times faster wherever PyTorch's own library does not favour the processor.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def multiply(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(hidden_states, self.packed, self.bias, "none", [], "")

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[f"{prefix}weight"] = self.packed.to_dense()
        if self.bias is not None:
            destination[f"{prefix}bias"] = self.bias


class Int8Linear(CpuLinear):
    """
    8-bit weights, one scale per output, and activations rounded to 8 bits, one scale per token.

    Both are symmetric. The scales follow each input, so nothing has to be calibrated. Products and sums are exact in
    32-bit integers. The layer cannot be saved.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        levels, scales = quantize_rows(linear.weight.detach())
        self.scales, self.zeros = scales.flatten().float(), torch.zeros(self.out_features, dtype=torch.int32)
        self.packed = torch.ops.onednn.qlinear_prepack(levels, None)

    def multiply(self, hidden_states: torch.Tensor) -> torch.Tensor:
        levels, scales = quantize_rows(hidden_states.reshape(-1, self.in_features))
        output = torch.ops.onednn.qlinear_pointwise(
            levels.view(torch.uint8) ^ _MIDDLE,  # adds it
            1.0,
            _MIDDLE,
            self.packed,
            self.scales,
            self.zeros,
            None,
            1.0,
            0,
            hidden_states.dtype,
            "none",
            [],
            "none",
        )
        output.mul_(scales)
        if self.bias is not None:
            output.add_(self.bias)
        return output.view(*hidden_states.shape[:-1], self.out_features)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        refuse_to_save()


def refuse_to_save(*args: Any, **kwargs: Any) -> NoReturn:
    """Stands for `save_pretrained` of models with `Int8Linear`, so that no file is written before the first weight."""
    raise RuntimeError(
        "A model with int8 layers of `optimize_for_inference` cannot be saved. Save it before that call; to publish "
        "8-bit weights, load with `quantization_config`."
    )


def quantize_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row as whole numbers between -127 and 127 in int8, and its `(rows, 1)` scale in the dtype of the rows."""
    numbers = rows.float()
    largest = torch.maximum(numbers.amax(-1, keepdim=True), -numbers.amin(-1, keepdim=True))
    scales = (largest / 127).to(rows.dtype).clamp_(min=torch.finfo(rows.dtype).tiny)
    return (numbers / scales.float()).round_().to(torch.int8), scales
