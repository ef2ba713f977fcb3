# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The processor and model that the properties are tried on: one that is used over and over, and clean copies."""

import functools

from helpers_tokenizer import qwen2_tokenizer
from tiny_models import tiny_model
from transformers_fastvlm import FastVLMForConditionalGeneration, FastVLMImageProcessorPil, FastVLMProcessor

SIDE = 128
TOKENS = (SIDE // 64) ** 2


def new_processor() -> FastVLMProcessor:
    tokenizer = qwen2_tokenizer(image_token=True, padding_side="left", pad_token="<|endoftext|>")
    return FastVLMProcessor(FastVLMImageProcessorPil(size=SIDE), tokenizer)


@functools.cache
def used_processor() -> FastVLMProcessor:
    return new_processor()


@functools.cache
def used_model() -> FastVLMForConditionalGeneration:
    return tiny_model()
