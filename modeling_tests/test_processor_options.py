# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a processor refuses: unknown options, values of wrong types, what is no prompt and no conversation."""

import json
import re

import PIL.Image
import pytest

from helpers_tokenizer import qwen2_tokenizer
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil
from transformers_fastvlm.processing_fastvlm import FastVLMProcessor

IMAGE = PIL.Image.new("RGB", (40, 30))
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def processor() -> FastVLMProcessor:
    return FastVLMProcessor(FastVLMImageProcessorPil(size=128), qwen2_tokenizer())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": 512}, "no option `sise`; did you mean `size`"),
        ({"pading": True}, "no option `pading`; did you mean `padding`"),
        ({"resolution": 512}, "FastVLMProcessor has no option `resolution`"),
        ({"fps": 2}, "FastVLMProcessor has no option `fps`"),
        ({"images_kwargs": {"sise": 512}}, "no option `sise`; did you mean `size`"),
        ({"text_kwargs": {"pad": True}}, "`text_kwargs` has no option `pad`"),
        ({"images_kwargs": 512}, "`images_kwargs` must be a dictionary"),
    ],
)
def test_options_of_a_call_that_there_are_not(processor, options, message):
    with pytest.raises(TypeError, match=message):
        processor(images=IMAGE, text="<image>", **options)
    with pytest.raises(TypeError, match=message):
        processor.apply_chat_template(MESSAGES, processor_kwargs=options)
    with pytest.raises(TypeError, match=message):
        processor._get_num_multimodal_tokens([(10, 10)], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_tile": "false"}, "`do_tile` must be bool, got 'false'"),
        ({"images_kwargs": {"do_tile": "false"}}, "`do_tile` must be bool, got 'false'"),
        ({"size": "512"}, "`size` must be a number of pixels"),
        ({"padding": True, "padding_side": "middle"}, "`padding_side` must be 'left' or 'right', got 'middle'"),
        ({"is_split_into_words": True}, "is_split_into_words"),
        ({"text_kwargs": {"is_split_into_words": True}}, "is_split_into_words"),
    ],
)
def test_values_that_an_option_of_a_call_cannot_have(processor, options, message):
    with pytest.raises(ValueError, match=message):
        processor(images=IMAGE, text="<image>", **options)


def test_variables_of_a_chat_template_are_no_options(processor):
    expected = processor.apply_chat_template(MESSAGES)
    assert processor.apply_chat_template(MESSAGES, enable_thinking=False) == expected
    encoded = processor.apply_chat_template(MESSAGES, enable_thinking=False, tokenize=True, return_dict=True)
    assert encoded["input_ids"] == processor(text=expected)["input_ids"]
    template = "{{ greeting }}, {{ messages[0].content }}"
    assert processor.apply_chat_template(MESSAGES, template, greeting="Ahoy") == "Ahoy, Hello"
    for tokenize in (False, True):
        with pytest.raises(TypeError, match="no option `sise`; did you mean `size`"):
            processor.apply_chat_template(MESSAGES, sise=512, tokenize=tokenize)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (5, "must be a string or a list of strings, got int 5"),
        (0, "got int 0"),
        ({"a": 1}, "got dict"),
        (b"bytes", "got bytes"),
        (["a", None], "has None in row 1"),
        (["a", ["b"]], "has list .* in row 1"),
        ("a\ud800b", "half a character .* at position 1 of row 0"),
        (["a", "\udfff"], "at position 0 of row 1"),
    ],
)
def test_what_is_no_prompt(processor, text, message):
    with pytest.raises(ValueError, match=message):
        processor(text=text)


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([], "must be a list of messages, got an empty list"),
        ("Hello", "must be a list of messages, got str 'Hello'"),
        (5, "must be a list of messages, got int 5"),
        ({"role": "user", "content": "a"}, "must be a list of messages, got dict"),
        (["a"], "Message 0 must be a dictionary with `role` and `content`, got str 'a'"),
        ([MESSAGES, []], "Conversation 1 must be a list of messages, got an empty list"),
        ([MESSAGES, ["a"]], "Message 0 of conversation 1 must be a dictionary"),
        ([MESSAGES, MESSAGES[0]], "Conversation 1 must be a list of messages, got dict"),
        ([{"content": "a"}], "Message 0 must have a text as `role`, got None"),
        ([*MESSAGES, {"role": "user"}], "Message 1 must have a text or a list of parts as `content`, got None"),
        ([{"role": "user", "contents": "a"}], "`content`, got None"),
        ([{"role": "user", "content": 5}], "`content`, got int 5"),
        ([{"role": "user", "content": ["a"]}], "Part 0 of message 0 must be a dictionary with `type`, got 'a'"),
        ([{"role": "user", "content": [{"text": "a"}]}], "Part 0 of message 0 must be a dictionary with `type`"),
        ([{"role": "user", "content": [{"type": "text"}]}], "Part 0 of message 0 must have a text as `text`"),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "must have a text as `text`"),
    ],
)
@pytest.mark.parametrize("tokenize", [False, True])
def test_what_is_no_conversation(processor, conversation, message, tokenize):
    with pytest.raises(ValueError, match=message):
        processor.apply_chat_template(conversation, tokenize=tokenize, return_dict=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": "64"}, "`patch_size` must be a number of pixels, at least 1, got '64'"),
        ({"patch_size": 0}, "`patch_size` must be"),
        ({"patch_size": True}, "`patch_size` must be"),
        ({"patch_size": None}, "`patch_size` must be"),
        ({"image_token": 5}, "`image_token` must be a text, got 5"),
        ({"image_token": ""}, "`image_token` must be a text"),
        ({"padding_side": "middle"}, "`padding_side` must be 'left' or 'right', got 'middle'"),
        ({"chat_template": 5}, "`chat_template` must be a text"),
        ({"pach_size": 64}, "no option `pach_size`; did you mean `patch_size`"),
        ({"image_processor": []}, "`image_processor`: expected an object with options, got \\[\\]"),
        ({"image_processor": {"size": 64, "do_tile": "false"}}, "`image_processor`: `do_tile` must be bool"),
        ({"image_processor": {"crop_size": 64}}, "`image_processor`: `crop_size` 64 is given without `size`"),
    ],
)
def test_the_processors_file_is_checked_as_a_call_is(processor, tmp_path, change, message):
    processor.save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(
        ValueError, match=rf"processor_config\.json of {re.escape(str(tmp_path))}: .*{message}|^{message}"
    ) as raised:
        FastVLMProcessor.from_pretrained(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_options_at_load_that_there_are_not(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    for option in ("sise", "do_tiles", "padding_sides", "pach_size"):
        with pytest.raises(TypeError, match=f"no option `{option}`; did you mean"):
            FastVLMProcessor.from_pretrained(tmp_path, **{option: 1})
