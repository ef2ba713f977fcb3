"""Rows of chat data sets to tokens, labels and pixels."""

import pickle

import numpy as np
import pytest
import torch

from chat_rows import make_processor, picture, png, turns
from transformers_fastvlm.training import RowError, RowFormat
from transformers_fastvlm.training.rows import NO_LOSS, encode_row, read_conversation

FORMAT = RowFormat()


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def supervised(processor, text) -> str:
    return processor.tokenizer.decode([label for label in text.labels if label != NO_LOSS])


def test_the_tokens_are_the_processors(processor):
    messages = turns("What is it?", "A cat.", "And its colour?", "Grey.")
    text, pixels = encode_row(processor, {"messages": messages, "images": [picture()]}, FORMAT)
    messages[0]["content"][0]["image"] = picture()
    expected = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    assert text.input_ids == expected["input_ids"][0].tolist()
    assert torch.equal(pixels, expected["pixel_values"])


def test_only_what_the_assistant_says_and_the_ends_of_its_turns_are_learnt(processor):
    row = {"messages": turns("What is it?", "A cat.", "And its colour?", "Grey."), "images": [picture()]}
    text, _ = encode_row(processor, row, FORMAT)
    assert supervised(processor, text) == "A cat.<|im_end|>Grey.<|im_end|>"
    assert len(text.labels) == len(text.input_ids)
    assert all(label in (NO_LOSS, token) for token, label in zip(text.input_ids, text.labels))


def test_an_image_in_the_answer_is_not_learnt(processor):
    messages = turns("Show it.", "Here: <image> you see")
    text, pixels = encode_row(processor, {"messages": messages, "images": [picture(), picture()]}, FORMAT)
    assert pixels.shape[0] == 2
    assert processor.image_token_id not in text.labels
    assert supervised(processor, text) == "Here:  you see<|im_end|>"


@pytest.mark.parametrize("kind", ["PIL", "bytes", "path", "stored path", "single"])
def test_images_are_read_from_what_data_sets_hold(kind, processor, tmp_path):
    image = picture()
    (tmp_path / "it.png").write_bytes(png(image))
    path = str(tmp_path / "it.png")
    value = {
        "PIL": [image],
        "bytes": [{"bytes": png(image), "path": "inside.png"}],
        "path": [path],
        "stored path": [{"bytes": None, "path": path}],
        "single": image,
    }[kind]
    row = {"messages": turns("What?", "That."), "images": value}
    _, (read,) = read_conversation(row, FORMAT, "<image>")
    assert np.array_equal(np.asarray(read), np.asarray(image))


def test_rows_without_images_are_text(processor):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    for images in (None, []):
        text, pixels = encode_row(processor, {"messages": messages, "images": images}, FORMAT)
        assert pixels is None
        assert supervised(processor, text) == "Hello<|im_end|>"


@pytest.mark.parametrize(
    ("row", "message", "reason"),
    [
        ({"messages": turns("What?"), "images": [picture()]}, "no assistant turn", "assistant"),
        ({"messages": turns("What?", "That."), "images": []}, "0 images but 1 `<image>`", "placeholders"),
        ({"messages": turns("What?", "That."), "images": [picture()] * 2}, "2 images but 1", "placeholders"),
        ({"messages": turns("What?", "That."), "images": [None]}, "Image 0 is missing", "image"),
        ({"messages": turns("What?", "That."), "images": ["no/such.png"]}, r"Image 0: .*no/such\.png", "image"),
        ({"messages": turns("What?", "That."), "images": [{"bytes": png(picture())[:500]}]}, "Image 0:", "image"),
        ({"messages": [], "images": []}, "`messages` is not a list of messages but empty", "messages"),
        ({"messages": "What?", "images": []}, "not a list of messages but a str", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}], "images": []}, "Unknown role 'tool'", "messages"),
        ({"messages": [{"role": "user", "content": None}], "images": []}, "content of a user message", "messages"),
    ],
)
def test_faulty_rows_are_named(row, message, reason, processor):
    with pytest.raises(RowError, match=message) as caught:
        encode_row(processor, row, FORMAT)
    assert caught.value.reason == reason


def test_errors_cross_processes():
    error = pickle.loads(pickle.dumps(RowError("Row 3: There is no assistant turn.", "assistant")))
    assert (str(error), error.reason) == ("Row 3: There is no assistant turn.", "assistant")


def test_too_long_rows_are_shortened_behind_their_image(processor):
    row = {"messages": turns("What is it?", "A cat on a mat."), "images": [picture()]}
    whole, _ = encode_row(processor, row, FORMAT)
    limit = len(whole.input_ids) - 6
    cut, pixels = encode_row(processor, row, RowFormat(max_length=limit))
    assert cut.shortened
    assert not whole.shortened
    assert cut.input_ids == whole.input_ids[:limit]
    assert cut.labels == whole.labels[:limit]
    assert pixels.shape[0] == 1


def test_no_image_and_no_answer_is_cut_through(processor):
    row = {"messages": turns("What is it?", "A cat."), "images": [picture()]}
    tokens = encode_row(processor, row, FORMAT)[0].input_ids
    first = tokens.index(processor.image_token_id)
    for limit in (first, first + 2):
        with pytest.raises(RowError, match="would lose part of an image"):
            encode_row(processor, row, RowFormat(max_length=limit))
    with pytest.raises(RowError, match="would lose the whole answer"):
        encode_row(processor, row, RowFormat(max_length=first + 6))
    with pytest.raises(RowError, match=f"It has {len(tokens)} tokens, more than {len(tokens) - 1}"):
        encode_row(processor, row, RowFormat(max_length=len(tokens) - 1, too_long="drop"))


def test_tiles_have_placeholders_of_their_own():
    processor = make_processor(do_tile=True, image_grid_pinpoints=[[256, 128], [128, 256]])
    row = {"messages": turns("What is it?", "A cat."), "images": [picture(200, 90)]}
    text, pixels = encode_row(processor, row, FORMAT)
    assert pixels.shape[0] == 3
    assert text.input_ids.count(processor.image_token_id) == 3 * 4


def test_a_template_that_does_not_mark_answers_is_refused(processor):
    plain = make_processor()
    plain.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "images": None}
    with pytest.raises(ValueError, match="does not mark what the assistant says"):
        encode_row(plain, row, FORMAT)


@pytest.mark.parametrize(
    ("options", "message"), [({"too_long": "cut"}, "too_long"), ({"max_length": 0}, "max_length")]
)
def test_formats_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RowFormat(**options)
