# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint loaded to be evaluated, and what is asked of it: answers, log-likelihoods, the most similar image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..extras import require
from ..modeling_fastvlm import FastVLMForConditionalGeneration
from ..processing_fastvlm import FastVLMProcessor
from ..quantization import quantization_config, require_known_scheme

IMAGE_TOKEN = "<image>"
DTYPES = ("auto", "float32", "bfloat16", "float16")
# What LLaVA's models in lmms-eval take where a task sets no limit.
MAX_NEW_TOKENS = 1024
# Options of a task's `generation_kwargs` that `generate` knows by the same name.
_GENERATION_OPTIONS = ("max_new_tokens", "min_new_tokens", "num_beams", "repetition_penalty")
_SAMPLING_OPTIONS = ("temperature", "top_p", "top_k")


@dataclass(frozen=True)
class ModelOptions:
    """
    How a checkpoint is loaded for evaluation.

    Args:
        pretrained: folder or Hub id of any FastVLM checkpoint.
        adapter: folder or Hub id of a PEFT adapter to put on it.
        quantization: a scheme of [`quantization_config`], such as `"nf4"`.
        dtype: of the weights, such as `"bfloat16"`; `"auto"` is the checkpoint's.
        resolution: side of the images in pixels; by default the checkpoint's.
        static_cache: keep keys and values in a cache of fixed size.
        compiled: run the encoder through `torch.compile`.

    Raises:
        ValueError: if the dtype or the scheme is unknown, or the resolution no number of pixels.
    """

    pretrained: str
    adapter: str | None = None
    quantization: str | None = None
    dtype: str = "auto"
    resolution: int | None = None
    static_cache: bool = False
    compiled: bool = False

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"Unknown dtype {self.dtype!r}; known are {', '.join(DTYPES)}.")
        if self.quantization is not None:
            require_known_scheme(self.quantization)
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"`resolution` is a number of pixels, at least 1, not {self.resolution}.")


def load(options: ModelOptions, device: torch.device | str = "cpu") -> tuple[Any, Any]:
    """
    The model, in eval mode on `device`, and its processor, of an own, original or upstream checkpoint.

    Raises:
        MissingLibraryError: if there is an adapter and PEFT is not installed.
        ImportError, OSError, ValueError: as `from_pretrained` and `quantization_config` do.
    """
    size: dict[str, Any] = {} if options.resolution is None else {"size": options.resolution}
    processor = FastVLMProcessor.from_pretrained(options.pretrained, **size)
    scheme: Any = options.quantization
    placement: dict[str, Any] = {}
    if scheme is not None:
        placement = {"quantization_config": quantization_config(scheme), "device_map": {"": device}}
    model: Any = FastVLMForConditionalGeneration.from_pretrained(options.pretrained, dtype=options.dtype, **placement)
    if scheme is None:
        model = model.to(device)
    if options.static_cache:
        model.generation_config.cache_implementation = "static"
    if options.compiled:
        model.model.vision_tower.compile()
    if options.adapter is not None:
        require(["peft"], "evaluation")
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, options.adapter)
    return model.eval(), processor


def to_messages(text: str, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """A user's turn: images where the text has `<image>`, if it has one for each, else all before the text."""
    parts = text.split(IMAGE_TOKEN)
    if len(parts) != len(images) + 1:
        parts = [""] * len(images) + [text.replace(IMAGE_TOKEN, "image")]
    content: list[dict[str, Any]] = []
    for index, part in enumerate(parts):
        part = part.removeprefix("\n") if index else part  # the template ends an image's line itself
        content += [{"type": "text", "text": part}] if part.strip() else []
        content += [{"type": "image", "image": images[index]}] if index < len(images) else []
    return [{"role": "user", "content": content}]


def generation_options(task_options: dict[str, Any]) -> dict[str, Any]:
    """
    Arguments of `generate` for a task's `generation_kwargs`: greedy, unless they ask for sampling.

    A temperature of 0 means greedy, as in lmms-eval. Options of other models are left out.
    """
    given = {name: value for name, value in task_options.items() if value is not None}
    sample = bool(given.get("do_sample", given.get("temperature", 0) > 0)) and given.get("temperature", 1) > 0
    names = _GENERATION_OPTIONS + (_SAMPLING_OPTIONS if sample else ())
    return {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": sample} | {n: given[n] for n in names if n in given}


def cut_at(text: str, ends: str | Sequence[str]) -> str:
    """`text` up to the first of the strings at which a task's answers end."""
    for end in [ends] if isinstance(ends, str) else ends:
        text = text.partition(end)[0] if end else text
    return text


@torch.no_grad()
def generate_answers(
    model: Any, processor: Any, conversations: list[list[dict[str, Any]]], **options: Any
) -> list[str]:
    """Answers to conversations with PIL images, as one batch; `options` are those of `generate`."""
    inputs = processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    ).to(model.device)
    output = model.generate(**inputs, **options)
    answers = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [answer.strip() for answer in answers]


@torch.no_grad()
def score_continuations(
    model: Any, processor: Any, conversations: list[list[dict[str, Any]]], continuations: list[str]
) -> list[tuple[float, bool]]:
    """
    How likely each text is as the answer to its conversation, `<|im_end|>` included.

    Returns:
        per conversation, the mean negative log-likelihood of the text's tokens, in nats, and whether greedy decoding
        would give it. The mean is what lmms-eval's models return, whose multiple-choice tasks take the least.
    """
    whole = [
        [*conversation, {"role": "assistant", "content": [{"type": "text", "text": text}]}]
        for conversation, text in zip(conversations, continuations)
    ]
    inputs = processor.apply_chat_template(
        whole,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "right"},
    ).to(model.device)
    is_answer = inputs.pop("assistant_masks").bool()[:, 1:]  # (batch, positions - 1)
    first = int(is_answer.any(0).nonzero()[0])
    logits = model(**inputs, logits_to_keep=inputs["input_ids"].shape[1] - first).logits[:, :-1].float()
    targets, is_answer = inputs["input_ids"][:, first + 1 :], is_answer[:, first:]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    means = (losses * is_answer).sum(1) / is_answer.sum(1)
    greedy = ((logits.argmax(-1) == targets) | ~is_answer).all(1)
    return list(zip(means.tolist(), greedy.tolist()))


@torch.no_grad()
def image_embeddings(model: Any, processor: Any, images: Sequence[Image.Image]) -> torch.Tensor:
    """
    One vector of length 1 per image, from the encoder alone, `(images, channels)`, float32.

    It is the CLIP embedding (`pooler_output`) where the checkpoint has that head, else the mean of the feature map
    over positions, which nothing has trained to tell images apart.
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    pixels = processor.image_processor(list(images), do_tile=False, return_tensors="pt").pixel_values
    tower = model.base_model.vision_tower
    encoded = tower(pixels.to(tower.device, tower.dtype), return_dict=True)
    embeddings = encoded.pooler_output
    if embeddings is None:
        embeddings = encoded.last_hidden_state.mean((2, 3))
    return torch.nn.functional.normalize(embeddings.float(), dim=-1)


def nearest_image(model: Any, processor: Any, images: Sequence[Image.Image]) -> int:
    """Which of the images after the first is most similar to the first, by cosine of their embeddings, from 0."""
    embeddings = image_embeddings(model, processor, images)
    return int((embeddings[1:] @ embeddings[0]).argmax())


__all__ = [
    "ModelOptions",
    "generate_answers",
    "generation_options",
    "image_embeddings",
    "load",
    "nearest_image",
    "score_continuations",
    "to_messages",
]
