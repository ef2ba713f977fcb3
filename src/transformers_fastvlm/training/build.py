# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A new VLM from two pretrained parts."""

import os
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..configuration_fastvlm import FastVLMConfig
from ..modeling_fastvithd import FastViTHDModel
from ..modeling_fastvlm import FastVLMForConditionalGeneration, FastVLMMultiModalProjector
from ..processing_fastvlm import FastVLMProcessor, image_processor_class_of

_TURN_TOKENS = ("<|im_start|>", "<|im_end|>")


def build_vlm(
    encoder: str | os.PathLike,
    decoder: str | os.PathLike,
    resolution: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[FastVLMForConditionalGeneration, FastVLMProcessor]:
    """
    Put a FastViTHD encoder and a causal language model together, with a new projector between them.

    Stage 1 of the paper's training (arXiv 2412.13303, section 4) then teaches the projector.

    Args:
        encoder: folder or Hub id of anything that `FastViTHDModel.from_pretrained` loads; also a whole FastVLM.
        decoder: folder or Hub id of a causal language model of transformers, with its tokenizer.
        resolution: side of the images in pixels, by default the encoder's.
        dtype: of all weights.

    Returns:
        the model, and its processor. The tokenizer has the tokens of turns and images in addition, where it lacks
        them, and the embeddings have grown to it.

    Raises:
        ValueError: if the resolution is not divisible by the encoder's stride.
    """
    vision_tower = FastViTHDModel.from_pretrained(encoder, dtype=dtype)
    language: Any = AutoModelForCausalLM.from_pretrained(decoder, dtype=dtype, use_safetensors=True)
    processor = _build_processor(AutoTokenizer.from_pretrained(decoder), vision_tower, resolution)
    if len(processor.tokenizer) > language.get_input_embeddings().weight.shape[0]:
        language.resize_token_embeddings(len(processor.tokenizer))
    if resolution is not None:
        vision_tower.config.image_size = resolution
    config = FastVLMConfig(
        vision_config=vision_tower.config,
        text_config=language.config,
        image_token_id=processor.image_token_id,
        tie_word_embeddings=language.config.tie_word_embeddings,
    )
    with torch.device("meta"):  # the parts have their weights already
        model: Any = FastVLMForConditionalGeneration(config)
    projector = FastVLMMultiModalProjector(config).to(dtype)
    model.model.multi_modal_projector = projector.apply(model._init_weights)
    if vision_tower.projection is not None:
        vision_tower.projection.requires_grad_(False)  # the VLM does not use it
    model.model.vision_tower = vision_tower
    model.model.language_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    model.generation_config = language.generation_config
    model.generation_config.eos_token_id = _ends(processor.tokenizer, language.generation_config.eos_token_id)
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return model.eval(), processor


def _build_processor(
    tokenizer: PreTrainedTokenizerBase, vision_tower: FastViTHDModel, resolution: int | None
) -> FastVLMProcessor:
    missing = [token for token in _TURN_TOKENS if token not in tokenizer.get_vocab()]
    tokenizer.add_tokens(missing, special_tokens=True)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    image_processor = image_processor_class_of()(size=resolution or vision_tower.config.image_size)
    return FastVLMProcessor(image_processor, tokenizer, patch_size=vision_tower.config.stride)


def _ends(tokenizer: PreTrainedTokenizerBase, known: int | list[int] | None) -> list[int]:
    """Tokens that end generation: the turn's, and those that the decoder ends with already."""
    others = [] if known is None else known if isinstance(known, list) else [known]
    (end,) = tokenizer.convert_tokens_to_ids(["<|im_end|>"])
    return list(dict.fromkeys([end, *others]))
