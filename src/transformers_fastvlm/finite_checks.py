# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Refusals of NaN and infinities, of which a decoder would make empty answers or fluent nonsense."""

import torch
from torch import nn


def can_look(tensor: torch.Tensor) -> bool:
    """Whether a tensor has values to look at: none while compiling or tracing, none on the meta device."""
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing() or tensor.is_meta)


def raise_on_non_finite_features(features: torch.Tensor, encoder: nn.Module, pixel_values: torch.Tensor) -> None:
    """
    Look at an encoder's features where that is free, on a CPU, and where it is needed, in float16. Elsewhere the first
    logits tell. Gradients of other dtypes' training are left to whoever scales and skips them.

    Raises:
        ValueError: if `pixel_values` have NaN or infinities.
        FloatingPointError: if weights have, which the message names, or the activations exceeded the dtype's range.
    """
    half = features.dtype == torch.float16
    if not can_look(features) or not (half or (features.device.type == "cpu" and not encoder.training)):
        return
    if torch.isfinite(features).all():
        return
    images = (~torch.isfinite(pixel_values)).flatten(1).any(1).nonzero().flatten().tolist()
    if images:
        raise ValueError(f"`pixel_values` have NaN or infinite values, in crops {images}.")
    raise_on_damaged_weights(encoder)
    if half:
        raise FloatingPointError(
            "The vision encoder's activations exceeded float16's range (65504). Use bfloat16 or float32, or load the "
            "model with `from_pretrained(..., dtype=torch.float16)`, which keeps the encoder in float32."
        )
    raise FloatingPointError(f"The vision encoder's activations exceeded the range of {features.dtype}.")


def raise_on_non_finite_logits(logits: torch.Tensor, model: nn.Module) -> None:
    """
    Look at the first logits of an answer, `(batch, positions, vocab)`, of which the last position's are taken. Some
    decoders rule tokens out by minus infinity.

    Raises:
        FloatingPointError: if they have NaN or infinities; the message names the weights that have.
    """
    last = logits[:, -1]
    if not can_look(last) or not (torch.isnan(last) | torch.isposinf(last)).any():
        return
    raise_on_damaged_weights(model)
    raise FloatingPointError(
        f"The first logits are not finite: the prompt's embeddings are not, or activations exceeded the range of "
        f"{model.dtype}. bfloat16 has float32's range."
    )


def raise_on_damaged_weights(model: nn.Module) -> None:
    """
    Raises:
        FloatingPointError: if a weight or statistic of the model has NaN or infinities, naming it.
    """
    for tensors in (model.named_parameters(), model.named_buffers()):
        for name, tensor in tensors:
            if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all():
                raise FloatingPointError(f"The weights are damaged: {name} has NaN or infinite values.")


__all__ = ["raise_on_non_finite_features", "raise_on_non_finite_logits"]
