# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Prompts and images become what the tokenizer and Pillow by hand make of them, whatever was processed before."""

import unicodedata

import numpy as np
import torch
from hypothesis import strategies as st

from robustness.harness import Refused, attempt, fuzzed
from robustness.oracles import copied, crops_by_hand, same, side_of
from robustness.strategies import (
    IMAGE_OPTIONS,
    ODD_VALUES,
    SOUND_IMAGE_OPTIONS,
    SOUND_TEXT_OPTIONS,
    TEXT_OPTIONS,
    array_pictures,
    options,
    pil_pictures,
    prompts,
)
from robustness.tiny import SIDE, new_processor, used_processor

small_pictures = pil_pictures()


@st.composite
def rows(draw):
    """A prompt and its images, as many as it has `<image>`."""
    images = draw(st.lists(small_pictures, max_size=3))
    return draw(prompts(len(images))), images


def assert_is_row(processor, encoded, row: int, prompt: str, images: list, image_options: dict) -> None:
    """A row of a padded batch has the tokens of the prompt with its placeholders written out, and no others."""
    side, crops = side_of(image_options, SIDE), 5 if image_options.get("do_tile") else 1
    written_out = prompt.replace("<image>", "<image>" * ((side // 64) ** 2 * crops))
    expected = new_processor().tokenizer.backend_tokenizer.encode(written_out).ids
    mask = encoded["attention_mask"][row].bool()
    assert encoded["input_ids"][row][mask].tolist() == expected
    assert (encoded["input_ids"][row][~mask] == processor.tokenizer.pad_token_id).all()
    side_padded = mask.tolist()
    assert side_padded in (sorted(side_padded), sorted(side_padded, reverse=True))


@fuzzed(
    40,
    batch=st.lists(rows(), min_size=1, max_size=4),
    nested=st.booleans(),
    image_options=SOUND_IMAGE_OPTIONS,
    text_options=SOUND_TEXT_OPTIONS,
)
def test_every_row_of_a_batch_is_its_prompt_and_its_images(batch, nested, image_options, text_options):
    processor = used_processor()
    texts = [prompt for prompt, _ in batch]
    per_row = [[picture.image for picture in pictures] for _, pictures in batch]
    images = per_row if nested else [image for row_images in per_row for image in row_images]
    before = copied((texts, images, image_options, text_options))
    encoded = processor(images=images, text=texts, return_tensors="pt", **image_options, **text_options)
    assert same(copied((texts, images, image_options, text_options)), before)
    for row, (prompt, pictures) in enumerate(batch):
        assert_is_row(processor, encoded, row, prompt, pictures, image_options)
    padded = text_options.get("padding_side", "left")
    width = encoded["input_ids"].shape[1]
    if all(texts):
        assert (encoded["attention_mask"][:, -1 if padded == "left" else 0] == 1).all()
    assert width % text_options.get("pad_to_multiple_of", 1) == 0
    pictures = [picture for _, row_pictures in batch for picture in row_pictures]
    if pictures:
        expected = np.concatenate([crops_by_hand(picture.levels, image_options, SIDE) for picture in pictures])
        assert encoded["pixel_values"].shape == expected.shape
        assert np.abs(encoded["pixel_values"].double().numpy() * 255 - expected).max() < 0.01
    else:
        assert "pixel_values" not in encoded


NESTINGS = st.sampled_from(["one", "flat", "nested", "deep", "tuple", "none", "empty", "missing", "extra"])


def nest(images: list, how: str):
    ways = {
        "one": images[0] if images else None,
        "nested": [images],
        "deep": [[[image] for image in images]],
        "tuple": tuple(images),
        "missing": images[1:],
        "extra": [*images, *images[:1]],
        "none": None,
        "empty": [],
    }
    return ways.get(how, images)


@fuzzed(
    80,
    prompt=st.one_of(prompts(), prompts(1), prompts(2)),
    given=st.lists(st.one_of(pil_pictures(), array_pictures()), max_size=2),
    nesting=NESTINGS,
    chosen=st.one_of(options(TEXT_OPTIONS), options(TEXT_OPTIONS | IMAGE_OPTIONS, 4)),
    as_list=st.booleans(),
)
def test_a_used_processor_gives_what_a_new_one_gives(prompt, given, nesting, chosen, as_list):
    images = nest([picture.image for picture in given], nesting)
    text = [prompt] if as_list else prompt
    before = copied((images, chosen))
    used, new = (
        attempt(lambda processor=processor: dict(processor(images=images, text=text, **chosen)), *chosen)
        for processor in (used_processor(), new_processor())
    )
    assert repr(used) == repr(new) if isinstance(used, Refused) else same(used, new)
    assert same(copied((images, chosen)), before)
    if isinstance(used, Refused):
        return
    ids = used["input_ids"]
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    ids = ids[0] if isinstance(ids[0], list) else ids
    wanted = chosen.get("max_length")
    if type(wanted) is int and chosen.get("truncation") is True:
        assert len(ids) <= wanted or chosen.get("padding") not in (None, False)
    crops = used.get("num_crops", [1] * len(given) if images is not None else [])
    if nesting in ("flat", "nested", "tuple") and given and not chosen.keys() & IMAGE_OPTIONS.keys():
        placeholders = ids.count(used_processor().image_token_id)
        assert placeholders == sum(int(count) for count in crops) * (SIDE // 64) ** 2


@fuzzed(60, text=st.one_of(ODD_VALUES, st.lists(ODD_VALUES, max_size=3), st.binary(max_size=4), prompts()))
def test_what_is_no_prompt_is_refused(text):
    encoded = attempt(lambda: used_processor()(text=text, return_tensors="pt", padding=True), "text", "prompt")
    if isinstance(encoded, Refused):
        return
    texts = [text] if isinstance(text, str) else text
    assert all(isinstance(prompt, str) for prompt in texts) and len(texts) == len(encoded["input_ids"])
    for row, prompt in enumerate(texts):
        kept = encoded["input_ids"][row][encoded["attention_mask"][row].bool()]
        assert used_processor().decode(kept) == new_processor().tokenizer.backend_tokenizer.decode(
            kept.tolist(), False
        )
        assert used_processor().decode(kept) == unicodedata.normalize("NFC", prompt)


CONTENT = st.one_of(
    ODD_VALUES,
    prompts(0),
    st.lists(
        st.one_of(
            st.fixed_dictionaries({"type": st.just("text"), "text": st.one_of(prompts(0), ODD_VALUES)}),
            st.fixed_dictionaries(
                {"type": st.just("image")}, optional={"image": pil_pictures().map(lambda p: p.image)}
            ),
            st.fixed_dictionaries(
                {"type": st.one_of(st.sampled_from(["video", "audio", "tool", "image_url"]), ODD_VALUES)}
            ),
            ODD_VALUES,
        ),
        max_size=3,
    ),
)
MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant", "system", "tool", ""]), "content": CONTENT}
        ),
        st.fixed_dictionaries({"role": ODD_VALUES, "content": CONTENT}),
        st.fixed_dictionaries({}, optional={"role": st.just("user"), "content": CONTENT, "x": st.just(1)}),
    ),
    max_size=3,
)


@fuzzed(
    60,
    messages=st.one_of(MESSAGES, st.lists(MESSAGES, max_size=2), ODD_VALUES),
    masks=st.booleans(),
    generation_prompt=st.booleans(),
)
def test_conversations_become_inputs_or_are_refused(messages, masks, generation_prompt):
    before = copied(messages)
    arguments = {"tokenize": True, "return_dict": True, "padding": True, "add_generation_prompt": generation_prompt}
    used, new = (
        attempt(
            lambda processor=processor: dict(
                processor.apply_chat_template(messages, return_assistant_tokens_mask=masks, **arguments)
            ),
            "role", "content", "message", "conversation", "image", "FastVLM",
        )
        for processor in (used_processor(), new_processor())
    )  # fmt: skip
    assert repr(used) == repr(new) if isinstance(used, Refused) else same(used, new)
    assert same(copied(messages), before)
    if not isinstance(used, Refused):
        ids = torch.as_tensor(used["input_ids"])
        assert len(ids) == (len(messages) if messages and isinstance(messages[0], list) else 1)
