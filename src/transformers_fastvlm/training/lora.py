# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Which layers LoRA adapts."""

import re

from torch import nn

from ..modeling_fastvlm import FastVLMForConditionalGeneration
from ..parts import MODULES, Part


def lora_target_modules(
    model: FastVLMForConditionalGeneration, decoder: bool = True, projector: bool = False, encoder: bool = False
) -> str:
    """
    The `target_modules` of a `LoraConfig`.

    Args:
        decoder: all linear layers of the decoder, whichever architecture it is; the embedding and the head stay.
        projector: both linear layers of the projector.
        encoder: the linear layers of the encoder's attention, in stages 4 and 5.

    Returns:
        `str`: a regular expression for the full names of these layers, which `adapter_config.json` keeps, so that the
        adapter loads on the same model in any checkpoint format.

    Raises:
        ValueError: if nothing is chosen.
    """
    wanted: dict[Part, bool] = {"decoder": decoder, "projector": projector, "encoder": encoder}
    chosen = [MODULES[part] for part, is_wanted in wanted.items() if is_wanted]
    if not chosen:
        raise ValueError("LoRA needs at least one of `decoder`, `projector` and `encoder`.")
    patterns = []
    for prefix in chosen:
        kinds = {
            name.rpartition(".")[2]
            for name, module in model.get_submodule(prefix).named_modules()
            if isinstance(module, nn.Linear)
        }
        if kinds:
            patterns.append(rf"{re.escape(prefix)}\.(?:.*\.)?(?:{'|'.join(sorted(kinds))})")
    if not patterns:
        raise ValueError(f"There are no linear layers in {', '.join(chosen)}.")
    return "|".join(patterns)
