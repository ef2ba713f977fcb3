"""Rows with a chosen and a rejected answer, as DPO takes them."""

import pytest
import torch

from chat_rows import make_processor, picture
from transformers_fastvlm.training import FastVLMDataCollator, PreferenceCollator, RowError, RowFormat
from transformers_fastvlm.training.preferences import read_preference_row

Q = "What is it?"
ROWS = [
    {"prompt": Q, "chosen": "A cat on a mat.", "rejected": "A dog.", "image": picture()},
    {
        "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
        "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What?"}],
    },
    {
        "prompt": [
            {"role": "user", "content": "<image>\nOne?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "<image>\nTwo?"},
        ],
        "chosen": [{"role": "assistant", "content": "No."}],
        "rejected": [{"role": "assistant", "content": "Yes, two of them."}],
        "images": [picture(60, 90), picture(50, 50)],
    },
]


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def test_only_the_answers_that_tell_them_apart_are_learnt(processor):
    batch = PreferenceCollator(processor)(ROWS)
    learnt = [
        processor.tokenizer.decode(ids[mask == 1]) for ids, mask in zip(batch["input_ids"], batch["completion_mask"])
    ]
    chosen, rejected = ["A cat on a mat.", "Hello!", "No."], ["A dog.", "What?", "Yes, two of them."]
    assert learnt == [f"{text}<|im_end|>" for text in chosen + rejected]
    assert not (batch["completion_mask"] & ~batch["attention_mask"].bool()).any()


def test_a_row_is_its_chosen_and_its_rejected_conversation(processor):
    for row in ROWS:
        batch = PreferenceCollator(processor)([row])
        for index, side in enumerate(("chosen", "rejected")):
            turns = row[side] if isinstance(row[side], list) else [{"role": "assistant", "content": row[side]}]
            prompt = row.get("prompt", [])
            prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            images = row.get("images", [row["image"]] if "image" in row else [])
            plain = FastVLMDataCollator(processor)([{"messages": prompt + turns, "images": images}])
            length = plain["input_ids"].shape[1]
            assert torch.equal(batch["input_ids"][index, :length], plain["input_ids"][0])
            assert batch["attention_mask"][index].sum() == length
            if images:
                share = batch["pixel_values"].chunk(2)[index]
                assert torch.equal(share, plain["pixel_values"])


def test_images_come_once_for_the_chosen_and_once_for_the_rejected(processor):
    batch = PreferenceCollator(processor)(ROWS)
    assert len(batch["pixel_values"]) == 6
    assert torch.equal(*batch["pixel_values"].chunk(2))


@pytest.mark.parametrize("row", [{"question": Q, "answer": "A cat."}, {"prompt": Q, "chosen": "A cat."}])
def test_rows_that_are_no_preferences_are_refused(row, processor):
    with pytest.raises(RowError):
        read_preference_row(processor, {**row, "image": picture()}, RowFormat())


def test_the_longer_of_both_is_what_the_limit_is_for(processor):
    texts = [read_preference_row(processor, row, RowFormat())[0] for row in ROWS]
    batch = PreferenceCollator(processor)(ROWS)
    lengths = batch["attention_mask"].sum(1)
    assert [len(text.input_ids) for text in texts] == torch.stack(lengths.chunk(2)).amax(0).tolist()
