"""Rows of chat data sets, and a processor for them."""

import io

import numpy as np
import PIL.Image

from helpers_tokenizer import qwen2_tokenizer
from transformers_fastvlm import FastVLMImageProcessorPil, FastVLMProcessor


def make_processor(**image_options) -> FastVLMProcessor:
    return FastVLMProcessor(FastVLMImageProcessorPil(size=128, **image_options), qwen2_tokenizer(image_token=True))


def picture(width: int = 90, height: int = 60) -> PIL.Image.Image:
    pixels = np.random.RandomState(0).randint(0, 255, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def png(image: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def turns(*texts: str) -> list[dict]:
    """Messages of user and assistant in turn; the first shows an image."""
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    messages[0]["content"] = [{"type": "image"}, {"type": "text", "text": texts[0]}]
    return messages
