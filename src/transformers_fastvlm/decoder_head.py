# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""From a decoder's last hidden states to logits and loss, as the decoder's own causal-LM class does it.

Most classes multiply with `lm_head` and no more. Others scale the logits (Granite, Cohere), cap them (Gemma 2) or add
a router's loss to the next-token loss (mixtures of experts). Whatever it is, that class's own `forward` does it here.
"""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights


class _GivenOutputs(nn.Module):
    """Stands in the decoder's place inside its causal-LM class: hands on outputs that have been computed before.

    Args:
        decoder: whose place it takes. Some classes call a part of it (OPT), so its parts do the same.
    """

    def __init__(self, decoder: nn.Module | None = None):
        super().__init__()
        for name, _ in decoder.named_children() if decoder is not None else ():
            self.add_module(name, _GivenOutputs())

    def forward(self, *args, inputs_embeds: Any = None, **kwargs) -> Any:
        return inputs_embeds


class _HeadOf(nn.Module):
    """Stands in the head's place: calls the head that the VLM has at that time, so that adapters on it take part."""

    def __init__(self, owner: nn.Module):
        super().__init__()
        self.__dict__["owner"] = owner  # not a child, which would make a circle of modules

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        owner: Any = self.owner
        return owner.get_output_embeddings()(hidden_states)


class DecoderHead:
    """
    What a decoder's causal-LM class does after its last layer. Has no weights of its own.

    Args:
        owner: the VLM, whose `get_output_embeddings()` is the head.
        text_config: of the decoder.

    Raises:
        ValueError: if there is no such class, or it has weights besides decoder and head, which a FastVLM has no place
            for.
    """

    def __init__(self, owner: PreTrainedModel, text_config: PretrainedConfig):
        if type(text_config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ValueError(f"A `{text_config.model_type}` is no causal language model, so it cannot be the decoder.")
        causal_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(text_config)]
        with torch.device("meta"), no_init_weights():
            causal = causal_class(text_config)
        head = causal.get_output_embeddings()
        names = {module: name for name, module in causal.named_modules()}
        decoder_name, head_name = causal.base_model_prefix, names.get(head)
        others = [
            name
            for name, _ in causal.named_parameters(remove_duplicate=False)
            if not name.startswith((f"{decoder_name}.", f"{head_name}."))
        ]
        if not isinstance(head, nn.Linear) or not hasattr(causal, decoder_name) or others:
            raise ValueError(
                f"{causal_class.__name__} cannot be FastVLM's decoder: between its last layer and its logits it has "
                f"more than one linear layer{': ' + ', '.join(others) if others else ''}."
            )
        if "inputs_embeds" not in inspect.signature(causal.forward).parameters:
            raise ValueError(f"{causal_class.__name__} cannot be FastVLM's decoder: it takes no `inputs_embeds`.")
        self.has_bias = head.bias is not None
        setattr(causal, decoder_name, _GivenOutputs(getattr(causal, decoder_name)))
        causal.set_submodule(head_name, _HeadOf(owner))
        self.causal = causal.eval()

    def __call__(self, outputs: Any, **kwargs) -> Any:
        """
        Args:
            outputs: of the decoder, of which `last_hidden_state` is `(batch, positions, hidden)`.
            **kwargs: `labels` and whatever else the causal-LM class's `forward` takes.

        Returns:
            that class's output.
        """
        # Every causal-LM class hands `inputs_embeds` on to its decoder without looking at it.
        return self.causal(inputs_embeds=outputs, return_dict=True, **kwargs)


__all__ = ["DecoderHead"]
