# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM in vLLM's transformers backend, in float16 too."""

import torch
from torch import nn
from vllm.model_executor.models import transformers as backend


# Of the backend's own name, by which vLLM tells whether a model is run by it.
class TransformersMultiModalForCausalLM(backend.TransformersMultiModalForCausalLM):
    """vLLM's class, with all of the encoder in float32 where the model is in float16."""

    def keep_in_fp32(self, module: nn.Module) -> None:
        """The backend leaves out the linear layers that it has put its own in for."""
        super().keep_in_fp32(module)
        if self.model_config.dtype == torch.float16:
            for parameter in module.vision_tower.parameters():  # type: ignore[union-attr, operator]
                parameter.data = parameter.data.float()
