# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's tokenizer: files that are missing or damaged, and threads with one processor."""

import copy
import json
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers_tokenizer import qwen2_tokenizer
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil
from transformers_fastvlm.processing_fastvlm import FastVLMProcessor


@pytest.fixture(scope="module")
def processor() -> FastVLMProcessor:
    tokenizer = qwen2_tokenizer(pad_token="<|endoftext|>", padding_side="right")
    return FastVLMProcessor(FastVLMImageProcessorPil(size=64), tokenizer)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "a folder": _make_folder,
    "a list": lambda path: path.write_text("[1]"),
    "null": lambda path: path.write_text("null"),
    "empty": lambda path: path.write_text(""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "UTF-16": lambda path: path.write_bytes(path.read_bytes().decode().encode("utf-16")),
    "with a byte order mark": lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()),
    "nested without end": lambda path: path.write_text("[" * 10**5),
}
FILES = ("tokenizer.json", "tokenizer_config.json", "processor_config.json")


# Without `processor_config.json`, `config.json` is asked.
CASES = [
    (name, damage)
    for name in FILES
    for damage in DAMAGES
    if (name, damage) not in (("processor_config.json", "missing"), ("processor_config.json", "a folder"))
]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_damaged_files_are_named(processor, tmp_path, name, damage):
    processor.save_pretrained(tmp_path)
    DAMAGES[damage](tmp_path / name)
    with pytest.raises(OSError, match=re.escape(name)) as raised:
        FastVLMProcessor.from_pretrained(tmp_path)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("content", ["{}", '{"model": {}}', '{"added_tokens": 5, "model": {"type": "BPE"}}'])
def test_a_tokenizers_file_of_another_shape_is_named(processor, tmp_path, content):
    processor.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(OSError, match=rf"{re.escape(str(tmp_path))} cannot be loaded from its tokenizer\.json"):
        FastVLMProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("length", ["", "8192", [8192]])
def test_a_longest_prompt_that_is_no_number_is_named(processor, tmp_path, length):
    processor.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": length}))
    with pytest.raises(OSError, match="model_max_length"):
        FastVLMProcessor.from_pretrained(tmp_path)


def test_a_chat_template_that_is_no_text_is_named(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(OSError, match=r"chat_template\.jinja is damaged"):
        FastVLMProcessor.from_pretrained(tmp_path)


PROMPTS = [
    ["One", "and two of the users", "Three <|im_end|> and some more words than those before"],
    ["the", "in the user"],
    ["A single one"],
]
OPTIONS = [
    {},
    {"padding": True},
    {"padding": True, "padding_side": "right"},
    {"padding": "max_length", "max_length": 40},
    {"padding": True, "pad_to_multiple_of": 16},
    {"truncation": True, "max_length": 5},
    {"truncation": True, "max_length": 3, "padding": True},
    {"padding": "max_length", "max_length": 64, "padding_side": "left"},
]


def test_threads_with_options_of_their_own_share_a_processor(processor):
    calls = [(text, options) for text in PROMPTS for options in OPTIONS] * 40
    expected = [dict(processor(text=text, **options)) for text, options in calls[: len(PROMPTS) * len(OPTIONS)]] * 40
    other = FastVLMProcessor(processor.image_processor, processor.tokenizer)  # of the same tokenizer

    def call(index: int):
        text, options = calls[index]
        return dict((processor if index % 3 else other)(text=text, **options))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(len(calls)))) == expected


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_processor_is_copied_and_pickled(processor, copied):
    expected = processor(text=PROMPTS[0], padding=True)
    other = copied(processor)
    assert dict(other(text=PROMPTS[0], padding=True)) == dict(expected)
    assert type(other.tokenizer) is type(processor.tokenizer)
