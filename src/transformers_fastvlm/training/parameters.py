# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Which parts of the model train, and how fast each."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from ..layers_fastvithd import FastViTHDBatchNorm
from ..modeling_fastvlm import FastVLMForConditionalGeneration
from ..parts import Part, part_of

PARTS: tuple[Part, ...] = ("encoder", "projector", "decoder")


def trained_with(name: str) -> Part:
    """The part that a parameter trains with, by its name: its own, and the decoder for the head."""
    part = part_of(name)
    return "decoder" if part == "head" else part


def train_only(model: FastVLMForConditionalGeneration, parts: Iterable[Part]) -> None:
    """
    Freeze all but the named parts.

    A frozen encoder stays what it is to the bit: its batch norms keep their statistics under `train()` too. The CLIP
    head, which the VLM does not use, never trains.

    Raises:
        ValueError: if a part is unknown, or none is named.
    """
    parts = set(parts)
    if unknown := parts - set(PARTS):
        raise ValueError(f"Unknown parts {sorted(unknown)}; known are {', '.join(PARTS)}.")
    if not parts:
        raise ValueError(f"Nothing would train: name at least one of {', '.join(PARTS)}.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained_with(name) in parts and not name.endswith("vision_tower.projection"))
    reparameterized = model.config.vision_config.reparameterized
    for module in model.model.vision_tower.modules():
        if isinstance(module, FastViTHDBatchNorm):
            module.frozen = reparameterized or "encoder" not in parts
            module.train(model.training)


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float = 0.0, **learning_rates: float
) -> list[dict[str, Any]]:
    """
    The trainable parameters as groups for an optimizer, by part and by whether they decay.

    As in `Trainer`, neither biases nor normalisation weights decay; in the encoder, layer scales do not either.

    Args:
        learning_rate: for all parts without one of their own.
        **learning_rates: by part, `encoder=2e-6`.

    Raises:
        ValueError: if a part is unknown or nothing is trainable.
    """
    if unknown := set(learning_rates) - set(PARTS):
        raise ValueError(f"Unknown parts {sorted(unknown)}; known are {', '.join(PARTS)}.")
    groups: dict[tuple[Part, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and "layer_scale" not in name
            groups.setdefault((trained_with(name), decays), []).append(parameter)
    if not groups:
        raise ValueError("No parameter is trainable.")
    return [
        {
            "params": parameters,
            "lr": learning_rates.get(part, learning_rate),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in groups.items()
    ]
