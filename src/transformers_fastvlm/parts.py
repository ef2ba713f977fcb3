# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The parts of a FastVLM by name: encoder, projector, decoder and head, and the modules that they are."""

from typing import Literal

Part = Literal["encoder", "projector", "decoder", "head"]

# In `FastVLMForConditionalGeneration`. In `FastVLMModel`, they have no `model.` before them.
MODULES: dict[Part, str] = {
    "encoder": "model.vision_tower",
    "projector": "model.multi_modal_projector",
    "decoder": "model.language_model",
    "head": "lm_head",
}


def module_names(part: Part) -> tuple[str, ...]:
    """A part's full names, with and without the language modeling head around it."""
    return tuple(dict.fromkeys((MODULES[part], MODULES[part].removeprefix("model."))))


def part_of(name: str) -> Part:
    """The part that a module, parameter or buffer belongs to, by its name, with or without PEFT's prefix."""
    inside = name.split(".")
    return next((part for part in MODULES if part != "decoder" and module_names(part)[-1] in inside), "decoder")
