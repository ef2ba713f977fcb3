"""Tiny random models for tests, and what fills them with weights that make errors visible."""

from pathlib import Path

import pytest
import torch
from torch import nn

from helpers_tokenizer import qwen2_tokenizer
from transformers_fastvlm import (
    FastViTHDConfig,
    FastVLMConfig,
    FastVLMForConditionalGeneration,
    FastVLMImageProcessorPil,
    FastVLMProcessor,
)

IMAGE_TOKEN_ID = 99
# At 128 pixels and stride 64, an image has 2 x 2 visual tokens.
TOKENS_PER_IMAGE = 4
TINY_TEXT = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def tiny_vision_config(**changes) -> FastViTHDConfig:
    values = {
        "depths": [1, 1, 2, 1, 1],
        "hidden_sizes": [8, 16, 32, 32, 64],
        "image_size": 128,
        "projection_dim": 24,
        "layer_scale_init_value": 0.5,
    }
    return FastViTHDConfig(**(values | changes))


def tiny_config(vision: dict | None = None, **text) -> FastVLMConfig:
    values = {
        **TINY_TEXT,
        "max_position_embeddings": 256,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "bos_token_id": None,
    }
    return FastVLMConfig(
        vision_config=tiny_vision_config(**(vision or {})), text_config=values | text, image_token_id=IMAGE_TOKEN_ID
    )


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of unit gain everywhere and non-trivial batch norm statistics, so that no part hides behind zeros."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.copy_(1 + 0.2 * values)
        elif "layer_scale" in name:
            parameter.copy_(0.4 + 0.1 * values)
        elif parameter.ndim == 1:
            parameter.copy_(0.1 * values)
        else:
            fan_in = parameter.shape[0] if name.endswith("projection") else parameter[0].numel()
            parameter.copy_(values / fan_in**0.5)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model


def tiny_model(seed: int = 0, vision: dict | None = None, **text) -> FastVLMForConditionalGeneration:
    model = FastVLMForConditionalGeneration(tiny_config(vision, **text)).eval()
    return randomize(model, seed)


def with_shared_encoder(model: FastVLMForConditionalGeneration) -> FastVLMForConditionalGeneration:
    """A model with the encoder and projector that all of these have, for tests that translate those once."""
    shared = tiny_model(num_hidden_layers=1).model
    model.model.vision_tower, model.model.multi_modal_projector = shared.vision_tower, shared.multi_modal_projector
    return model


def write_tiny_checkpoint(folder: Path, vision: dict | None = None, **text) -> Path:
    """A whole own checkpoint with random weights: model, tokenizer, processor; images of 128 pixels, 4 tokens."""
    tokenizer = qwen2_tokenizer(image_token=True, padding_side="left", pad_token="<|endoftext|>")
    processor = FastVLMProcessor(FastVLMImageProcessorPil(size=128), tokenizer)
    end = {"eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 2048}
    config = tiny_config(vision, **{"vocab_size": len(tokenizer), **end, **text})
    config.image_token_id = processor.image_token_id
    model = randomize(FastVLMForConditionalGeneration(config).eval())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def adapter_for(base: Path, folder: Path):
    """A `PeftModel` of a checkpoint with a LoRA adapter that changes its answers, saved to `folder`; needs PEFT."""
    peft = pytest.importorskip("peft", reason="adapters need PEFT (the `train` extra)")
    from transformers_fastvlm.training import lora_target_modules

    model = FastVLMForConditionalGeneration.from_pretrained(base)
    config = peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=lora_target_modules(model))
    model = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # both, so that every run has the same adapter
            nn.init.normal_(parameter, std=0.5, generator=generator)
    model.save_pretrained(folder)
    return model.eval()
