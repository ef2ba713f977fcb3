# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Batches are answered as each prompt by hand is, whatever the way; inputs that do not fit are refused clearly."""

import math

import torch
from hypothesis import strategies as st

from robustness.harness import Refused, attempt, fuzzed
from robustness.oracles import copied, greedy_by_hand, same
from robustness.strategies import ODD_VALUES, options
from robustness.tiny import TOKENS, used_model
from tiny_models import IMAGE_TOKEN_ID, tiny_model

VOCABULARY = 120
PLAIN = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
words = st.lists(st.integers(2, IMAGE_TOKEN_ID - 1), min_size=1, max_size=5)


@st.composite
def token_rows(draw) -> tuple[list[int], int]:
    """Ids of a prompt, and the number of images in it."""
    ids, images = draw(words), draw(st.integers(0, 2))
    for _ in range(images):
        ids += [IMAGE_TOKEN_ID] * TOKENS + draw(st.lists(st.integers(2, 90), max_size=3))
    if ids[-1] == IMAGE_TOKEN_ID and draw(st.booleans()):
        ids.append(7)
    return ids, images


def pixels_for(count: int, seed: int, side: int = 128) -> torch.Tensor | None:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) if count else None


def padded_left(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
    }


WAYS = st.fixed_dictionaries(
    {},
    optional={
        "use_cache": st.booleans(),
        "prefill_chunk_size": st.sampled_from([1, 3, 8, 100]),
        "logits_to_keep": st.just(1),
        "output_logits": st.booleans(),
        "return_dict_in_generate": st.just(False),
        "num_beams": st.just(1),
    },
)
STATIC = st.sampled_from([{}, {}, {"cache_implementation": "static", "disable_compile": True}])


@fuzzed(20, rows=st.lists(token_rows(), min_size=1, max_size=3), way=WAYS, static=STATIC, seed=st.integers(0, 99))
def test_a_batch_is_answered_as_each_prompt_by_hand(rows, way, static, seed):
    model = used_model()
    way = way | (static if way.get("use_cache", True) else {})
    if not way.get("use_cache", True):
        way.pop("prefill_chunk_size", None)
    inputs = padded_left([ids for ids, _ in rows])
    pixels = pixels_for(sum(images for _, images in rows), seed)
    if pixels is not None:
        inputs["pixel_values"] = pixels
    before = copied((inputs, way))
    answers = model.generate(**inputs, **PLAIN, **way, max_new_tokens=3)
    assert same(copied((inputs, way)), before)
    start = 0
    for row, (ids, images) in enumerate(rows):
        own_pixels = pixels[start : start + images] if images else None
        start += images
        expected = greedy_by_hand(model, torch.tensor([ids]), own_pixels, 3)
        assert answers[row, inputs["input_ids"].shape[1] :].tolist() == expected


@fuzzed(15, rows=st.lists(token_rows(), min_size=1, max_size=2), beams=st.integers(2, 3), seed=st.integers(0, 99))
def test_beams_and_samples_of_a_batch_are_those_of_each_alone(rows, beams, seed):
    model = used_model()
    inputs = padded_left([ids for ids, _ in rows])
    pixels = pixels_for(sum(images for _, images in rows), seed)
    given = {} if pixels is None else {"pixel_values": pixels}
    width, start = inputs["input_ids"].shape[1], 0
    arguments = {**PLAIN, "num_beams": beams, "num_return_sequences": beams, "max_new_tokens": 3}
    together = model.generate(**inputs, **given, **arguments)[:, width:].unflatten(0, (len(rows), beams))
    for row, (ids, images) in enumerate(rows):
        own = {"pixel_values": pixels[start : start + images]} if images else {}
        start += images
        alone = model.generate(input_ids=torch.tensor([ids]), **own, **arguments)
        assert together[row].tolist() == alone[:, len(ids) :].tolist()


BREAKS = [
    "ids out of vocabulary",
    "negative ids",
    "floating-point ids",
    "flat ids",
    "no positions",
    "no rows",
    "placeholder too many",
    "placeholder missing",
    "placeholders of one row in another",
    "image missing",
    "image too many",
    "no images",
    "images of NaN",
    "images of infinity",
    "images of 0..255",
    "integer images",
    "images without batch",
    "images with one axis more",
    "images of four channels",
    "images of 100 pixels",
    "images of no pixels",
    "images channels last",
    "mask too short",
    "mask too long",
    "mask of other rows",
    "mask padded right",
    "mask with a hole",
    "mask of zeros",
    "floating-point mask",
    "mask of twos",
    "masked placeholder",
    "mask of three axes",
    "list of ids",
]


def broken(how: str, rows: list[tuple[list[int], int]], pixels: torch.Tensor) -> dict:
    """Inputs of a batch that has at least one image, with one thing wrong."""
    ids = [list(row) for row, _ in rows]
    if how == "placeholder too many":
        ids[0] = [*ids[0], IMAGE_TOKEN_ID, 5]
    elif how == "placeholder missing":
        row = next(index for index, (_, images) in enumerate(rows) if images)
        ids[row].remove(IMAGE_TOKEN_ID)
    elif how == "placeholders of one row in another":
        row = next(index for index, (_, images) in enumerate(rows) if images)
        ids[row].remove(IMAGE_TOKEN_ID)
        ids[row - 1] = [*ids[row - 1], IMAGE_TOKEN_ID, 5]
    inputs: dict = padded_left(ids) | {"pixel_values": pixels}
    tokens, mask = inputs["input_ids"], inputs["attention_mask"]
    first_image = (tokens == IMAGE_TOKEN_ID).nonzero()[0]
    if how == "ids out of vocabulary":
        tokens[0, -1] = VOCABULARY + 3
    elif how == "negative ids":
        tokens[0, -1] = -200
    elif how == "mask padded right":
        mask[0] = mask[0].flip(0)
        mask[0, -1] = 0
    elif how == "mask with a hole":
        mask[0, -2] = 0
        mask[0, -3:-2] = 1
    elif how == "mask of zeros":
        mask[0] = 0
    elif how == "masked placeholder":
        mask[first_image[0], : first_image[1] + 1] = 0
    elif how == "mask of twos":
        mask *= 2
    changes = {
        "floating-point ids": lambda: {"input_ids": tokens.float()},
        "flat ids": lambda: {"input_ids": tokens[0]},
        "no positions": lambda: {"input_ids": tokens[:, :0], "attention_mask": mask[:, :0]},
        "no rows": lambda: {"input_ids": tokens[:0], "attention_mask": mask[:0]},
        "image missing": lambda: {"pixel_values": pixels[1:]},
        "image too many": lambda: {"pixel_values": torch.cat([pixels, pixels[:1]])},
        "no images": lambda: {"pixel_values": None},
        "images of NaN": lambda: {"pixel_values": pixels * math.nan},
        "images of infinity": lambda: {"pixel_values": pixels / 0},
        "images of 0..255": lambda: {"pixel_values": pixels * 255},
        "integer images": lambda: {"pixel_values": (pixels * 255).to(torch.uint8)},
        "images without batch": lambda: {"pixel_values": pixels[0]},
        "images with one axis more": lambda: {"pixel_values": pixels[None]},
        "images of four channels": lambda: {"pixel_values": torch.cat([pixels, pixels[:, :1]], 1)},
        "images of 100 pixels": lambda: {"pixel_values": pixels[..., :100, :100]},
        "images of no pixels": lambda: {"pixel_values": pixels[..., :0, :0]},
        "images channels last": lambda: {"pixel_values": pixels.movedim(1, -1)},
        "mask too short": lambda: {"attention_mask": mask[:, 1:]},
        "mask too long": lambda: {"attention_mask": torch.cat([mask, mask[:, -1:]], 1)},
        "mask of other rows": lambda: {"attention_mask": torch.cat([mask, mask])},
        "floating-point mask": lambda: {"attention_mask": mask / 2},
        "mask of three axes": lambda: {"attention_mask": mask[:, None]},
        "list of ids": lambda: {"input_ids": tokens.tolist()},
    }
    return inputs | (changes[how]() if how in changes else {})


# What may mean something: pixels of a normalization of one's own, tokens left out on purpose, any mask's numbers.
MAY_BE_MEANT = {"images of 0..255", "mask with a hole", "mask of twos"}


@fuzzed(
    3,
    how=BREAKS,
    rows=st.lists(token_rows(), min_size=1, max_size=3).filter(lambda rows: any(images for _, images in rows)),
    seed=st.integers(0, 9),
)
def test_inputs_that_do_not_fit_are_refused(how, rows, seed):
    pixels = pixels_for(sum(images for _, images in rows), seed)
    inputs = broken(how, rows, pixels)
    if how == "placeholders of one row in another" and len(rows) == 1:
        return
    if how in ("mask padded right", "mask with a hole") and inputs["input_ids"].shape[1] < 4:
        return
    terms = ("input_ids", "attention_mask", "pixel_values", "prompt", "placeholder", "image")
    before = copied(inputs)
    answers = attempt(lambda: used_model().generate(**inputs, **PLAIN, max_new_tokens=2), *terms)
    assert same(copied(inputs), before)
    assert isinstance(answers, Refused) or how in MAY_BE_MEANT, f"{how}: answered"


# Values of the right types, sensible or not; of wrong types, transformers' own validation is the judge.
GENERATE_OPTIONS = {
    "max_new_tokens": st.sampled_from([1, 3, 0, -1, None]),
    "max_length": st.sampled_from([1, 5, 40, 0, -1, None]),
    "min_new_tokens": st.sampled_from([0, 2, 100, -1]),
    "num_beams": st.sampled_from([1, 2]),
    "num_return_sequences": st.sampled_from([1, 2, 0, -1]),
    "do_sample": st.booleans(),
    "temperature": st.sampled_from([1.0, 0.0, -1.0, None, 0.1]),
    "top_k": st.sampled_from([1, 5, 0, -1, None, 10**9]),
    "top_p": st.sampled_from([0.5, 1.0, 0.0, -1.0, 2.0, None]),
    "repetition_penalty": st.sampled_from([1.0, 1.2, 0.0, -1.0, None]),
    "no_repeat_ngram_size": st.sampled_from([0, 2, -1, 1000]),
    "length_penalty": st.sampled_from([1.0, -1.0]),
    "early_stopping": st.sampled_from([True, False, "never", "x"]),
    "use_cache": st.booleans(),
    "cache_implementation": st.sampled_from([None, "static", "dynamic", "bogus"]),
    "prefill_chunk_size": st.sampled_from([None, 1, 4, 0, -1, 10**9]),
    "eos_token_id": st.sampled_from([None, 1, [1, 2], -1, 10**9]),
    "pad_token_id": st.sampled_from([None, 0, -1, 10**9]),
    "bad_words_ids": st.sampled_from([None, [[5]], [[-1]], []]),
    "logits_to_keep": st.sampled_from([0, 1, 2, None]),
    "output_scores": st.booleans(),
    "return_dict_in_generate": st.booleans(),
    "output_hidden_states": st.booleans(),
    "inputs_embeds": st.sampled_from([None, torch.zeros(1, 3, 32), torch.zeros(1, 3, 7), torch.zeros(3, 32)]),
    "mm_encoder_outputs": st.sampled_from([None, {}, {"image": None}]),
    "no_such_option": ODD_VALUES,
}


@fuzzed(40, row=token_rows(), chosen=options(GENERATE_OPTIONS), seed=st.integers(0, 9))
def test_options_mean_the_same_to_a_used_and_a_new_model(row, chosen, seed):
    ids, images = row
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if images:
        inputs["pixel_values"] = pixels_for(images, seed)
    outcomes = []
    for model in (used_model(), tiny_model()):
        arguments = {"max_new_tokens": 3, "disable_compile": True, **PLAIN, **copied(chosen)}
        before = copied((inputs, arguments))
        torch.manual_seed(seed)
        outcomes.append(
            attempt(lambda model=model, arguments=arguments: model.generate(**inputs, **arguments), *chosen)
        )
        assert same(copied((inputs, arguments)), before)
    used, new = (outcome.sequences if hasattr(outcome, "sequences") else outcome for outcome in outcomes)
    assert repr(used) == repr(new) if isinstance(used, Refused) else torch.equal(used, new)
    if isinstance(used, Refused) or "inputs_embeds" in chosen:
        return
    assert torch.equal(used[:, : len(ids)], inputs["input_ids"].expand(len(used), -1))


@fuzzed(
    3,
    how=[how for how in BREAKS if "mask" not in how],
    rows=st.lists(token_rows(), min_size=1, max_size=2).filter(lambda rows: any(images for _, images in rows)),
    with_labels=st.booleans(),
)
def test_a_forward_pass_refuses_what_does_not_fit(how, rows, with_labels):
    if how == "placeholders of one row in another" and len(rows) == 1:
        return
    inputs = broken(how, rows, pixels_for(sum(images for _, images in rows), 0))
    if with_labels and isinstance(inputs["input_ids"], torch.Tensor):
        inputs["labels"] = inputs["input_ids"].long().clamp(0, 90)
    elif how in ("no images", "no rows", "no positions"):
        return  # a decoder's forward pass alone: text, and shapes that tracers use
    terms = ("input_ids", "pixel_values", "prompt", "placeholder", "image", "labels")
    with torch.no_grad():
        outputs = attempt(lambda: used_model()(**inputs), *terms)
    assert isinstance(outputs, Refused) or how in MAY_BE_MEANT, f"{how}: answered"
