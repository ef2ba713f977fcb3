# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Linear layers in 8-bit integers on CPUs, through oneDNN's kernels in PyTorch."""

import torch
from torch import nn

_MIDDLE = 128  # of the unsigned levels that stand for activations


def int8_is_fast() -> bool:
    """Whether this machine multiplies 8-bit integers faster than floating point numbers, and exactly."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()


class Int8Linear(nn.Module):
    """
    A linear layer with 8-bit weights, one scale per output, and activations rounded to 8 bits, one scale per token.

    Both are symmetric. The scales follow each input, so nothing has to be calibrated. Products and sums are exact in
    32-bit integers. The layer cannot be saved: its weights are laid out for the processor.

    Args:
        linear: the layer to take the place of; its weights are not kept.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        levels, scales = quantize_rows(linear.weight.detach().float())
        self.scales, self.zeros = scales.flatten(), torch.zeros(self.out_features, dtype=torch.int32)
        self.packed = torch.ops.onednn.qlinear_prepack(levels.to(torch.int8), None)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """From `(..., in_features)` to `(..., out_features)`, in the dtype of the input."""
        dtype = hidden_states.dtype
        levels, scales = quantize_rows(hidden_states.reshape(-1, self.in_features))
        output = torch.ops.onednn.qlinear_pointwise(
            levels.add_(_MIDDLE).to(torch.uint8),
            1.0,
            _MIDDLE,
            self.packed,
            self.scales,
            self.zeros,
            None,
            1.0,
            0,
            dtype,
            "none",
            [],
            "none",
        )
        output.mul_(scales)
        if self.bias is not None:
            output.add_(self.bias)
        return output.view(*hidden_states.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        raise RuntimeError(
            "A model with int8 layers of `optimize_for_inference` cannot be saved. Save it before that call; to "
            "publish 8-bit weights, load with `quantization_config`."
        )


def quantize_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row as whole numbers between -127 and 127, in its dtype, and the `(rows, 1)` scale that gives it back."""
    scales = rows.abs().amax(-1, keepdim=True).div_(127).clamp_(min=torch.finfo(torch.bfloat16).tiny)
    return (rows / scales).round_().clamp_(-127, 127), scales
