# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One model and one processor used by eight threads give each thread what it would have got alone."""

import copy
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import AutoProcessor
from transformers.utils import is_torchvision_available

from robustness.oracles import copied, same
from robustness.tiny import new_processor, used_model
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm import FastVLMForConditionalGeneration
from transformers_fastvlm.image_processing_fastvlm import FastVLMImageProcessor

THREADS = 8


def in_threads(work, cases: list) -> list:
    """What `work` gives for each case, with all threads at it at once and taking turns as often as they can."""
    ready = threading.Barrier(THREADS)
    shares = [cases[index::THREADS] for index in range(THREADS)]

    def share(own: list) -> list:
        ready.wait()
        return [copied(work(case)) for case in own]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(share, shares))
    finally:
        sys.setswitchinterval(interval)
    return [results[index % THREADS][index // THREADS] for index in range(len(cases))]


def assert_as_alone(work, cases: list) -> None:
    alone = [copied(work(case)) for case in cases]
    together = in_threads(work, cases)
    wrong = [index for index, (one, other) in enumerate(zip(alone, together, strict=True)) if not same(one, other)]
    assert not wrong, f"{len(wrong)} of {len(cases)} differ"
    assert sum(same(alone[0], other) for other in alone) < len(cases) // 2


def picture(chance: random.Random) -> PIL.Image.Image:
    size = chance.randint(1, 200), chance.randint(1, 200)
    pixels = np.random.default_rng(chance.randrange(2**32)).integers(0, 256, (*size, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def processor_call(seed: int) -> dict:
    chance = random.Random(seed)
    rows = chance.randint(1, 3)
    images = [[picture(chance) for _ in range(chance.randint(0, 2))] for _ in range(rows)]
    text = [
        "word " * chance.randint(1, 12) + "<image> and " * len(row) + f"number {chance.random()}" for row in images
    ]
    options = {"padding": True, "padding_side": chance.choice(["left", "right"]), "return_tensors": "pt"}
    options |= chance.choice([{}, {"pad_to_multiple_of": 16}, {"padding": "max_length", "max_length": 2000}])
    if chance.random() < 0.3 and rows == 1:
        options = {"return_tensors": "pt", "truncation": True, "max_length": 2000}
    options |= chance.choice([{}, {"size": 64}, {"size": 192}, {"do_tile": True}, {"background_color": 9}])
    return {"images": images, "text": text, **options}


def test_one_processor_for_calls_of_different_options():
    processor = new_processor()
    assert_as_alone(lambda call: dict(processor(**call)), [processor_call(seed) for seed in range(96)])


def test_one_tokenizer_for_prompts_of_different_options():
    processor = new_processor()

    def call(seed: int) -> dict:
        chance = random.Random(seed)
        text = [f"the user {chance.random()} " * chance.randint(1, 5) for _ in range(chance.randint(1, 4))]
        return {"text": text} | chance.choice(
            [
                {"padding": True, "padding_side": "left"},
                {"padding": True, "padding_side": "right"},
                {"padding": "max_length", "max_length": 90, "truncation": True},
                {"padding": "max_length", "max_length": 200, "padding_side": "right"},
                {"truncation": True, "max_length": 9},
                {},
            ]
        )

    assert_as_alone(lambda options: dict(processor(**options)), [call(seed) for seed in range(400)])


@pytest.mark.skipif(not is_torchvision_available(), reason="torchvision, an optional package, is not installed")
def test_one_image_processor_on_torchvision():
    processor = FastVLMImageProcessor(size=64)

    def work(seed: int) -> torch.Tensor:
        chance = random.Random(seed)
        options = chance.choice([{}, {"size": 128}, {"do_tile": True}, {"background_color": 100}])
        return processor([picture(chance)] * chance.randint(1, 3), return_tensors="pt", **options)["pixel_values"]

    assert_as_alone(work, list(range(80)))


def pixels(chance: random.Random, count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(chance.randrange(2**32)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_encoder_for_images_of_different_sizes(dtype):
    encoder = copy.deepcopy(used_model().model.vision_tower).to(dtype)

    def work(seed: int) -> torch.Tensor:
        chance = random.Random(seed)
        images = pixels(chance, chance.randint(1, 3), chance.choice([64, 128, 192, 320]))
        with torch.no_grad():
            return encoder(images, output_hidden_states=chance.random() < 0.2).last_hidden_state

    assert_as_alone(work, list(range(40)))


WAYS = [
    {},
    {"num_beams": 2},
    {"use_cache": False},
    {"prefill_chunk_size": 3},
    {"num_beams": 3, "num_return_sequences": 2},
]


def test_one_model_generates_for_all():
    model = used_model()
    token = model.config.image_token_id

    def work(seed: int) -> torch.Tensor:
        chance = random.Random(seed)
        side = chance.choice([64, 128])
        rows = [chance.randint(0, 2) for _ in range(chance.randint(1, 3))]
        ids = [[5, *[token] * ((side // 64) ** 2 * images), 6 + chance.randrange(50), 7] for images in rows]
        width = max(map(len, ids))
        inputs = {
            "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in ids]),
            "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
        }
        if sum(rows):
            inputs["pixel_values"] = pixels(chance, sum(rows), side)
        arguments = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "max_new_tokens": 3}
        return model.generate(**inputs, **arguments, **chance.choice(WAYS))

    assert_as_alone(work, list(range(40)))


def test_one_checkpoint_answers_and_encodes_for_all(tmp_path):
    folder = write_tiny_checkpoint(tmp_path)
    processor = AutoProcessor.from_pretrained(folder)
    model = FastVLMForConditionalGeneration.from_pretrained(folder).eval()

    def work(seed: int) -> torch.Tensor | list[str]:
        chance = random.Random(seed)
        images = [[picture(chance) for _ in range(chance.randint(1, 2))] for _ in range(chance.randint(1, 3))]
        text = ["the user " * chance.randint(1, 9) + "<image>" * len(row) for row in images]
        options = chance.choice([{}, {"size": 64}, {"size": 192}, {"do_tile": True, "size": 64}])
        inputs = processor(images=images, text=text, padding=True, return_tensors="pt", **options)
        if chance.random() < 0.3:
            with torch.no_grad():
                return model.get_image_features(inputs["pixel_values"]).pooler_output
        answers = model.generate(**inputs, do_sample=False, max_new_tokens=3, **chance.choice(WAYS))
        return processor.batch_decode(answers)

    assert_as_alone(work, list(range(40)))
