# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of others' models with PEFT, on the batches that ours trains on."""

from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from peer_vlms import upstream_config
from transformers_fastvlm.benchmark.configurations import TrainingBenchmarkConfig
from transformers_fastvlm.benchmark.synthetic import random_model
from transformers_fastvlm.benchmark.training import TrainingSubject, make_batch, ready_to_train
from transformers_fastvlm.configuration_fastvlm import FastVLMConfig

_DECODERS_LAYERS = r".*language_model.*\.(?:[qkvo]_proj|gate_proj|up_proj|down_proj)"


def upstream_with_lora(config: TrainingBenchmarkConfig) -> Any:
    """transformers' own FastVLM of 0.5B's sizes with random weights, and LoRA of rank 16 on the decoder."""
    from peft import LoraConfig, get_peft_model

    model = random_model(upstream_config("0.5B"), getattr(torch, config.dtype), AutoModelForImageTextToText)
    adapter = LoraConfig(r=16, lora_alpha=32, task_type="CAUSAL_LM", target_modules=_DECODERS_LAYERS)
    return ready_to_train(get_peft_model(model.to(config.device), adapter), config)


def upstream_batch(config: TrainingBenchmarkConfig, model: Any) -> dict[str, Any]:
    """The batch of ours, at FastVLM's resolution; its placeholder token is the same."""
    return make_batch(config, FastVLMConfig())


TRAINING_PEERS = {
    "upstream": TrainingSubject("upstream", upstream_with_lora, upstream_batch, requires=("timm", "torchvision")),
}
