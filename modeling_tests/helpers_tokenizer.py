# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A small tokenizer that splits text as Qwen2's does, built without a network."""

import json
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

REAL_SPECIAL_TOKENS = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
# Frequent pairs, so that tokens cross letters as in a real vocabulary.
_MERGES = ["Ġ Ġ", "Ġ t", "h e", "i n", "r e", "Ġt he", "e r", "u s", "us er", "Ċ Ċ", "s y", "s t", "sy st", "e m"]


def qwen2_tokenizer(first_special_id: int | None = None, image_token: bool = False, **kwargs) -> Qwen2Tokenizer:
    """
    A byte-level BPE tokenizer of 256 bytes and a few merges with Qwen2's three special tokens.

    Args:
        first_special_id (`int`, *optional*): id of `<|endoftext|>`, which `<|im_start|>` and `<|im_end|>` follow. By
            default the first free one; 151643 gives the ids of the released checkpoints, and takes half a second.
        image_token (`bool`): whether it also has `<image>`, at the id after them.
        **kwargs: for the tokenizer, such as `padding_side`.
    """
    vocab = {byte: index for index, byte in enumerate(sorted(ByteLevel.alphabet()))}
    for merge in _MERGES:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    first = len(vocab) if first_special_id is None else first_special_id
    # Ids without gaps, as in a real vocabulary: added tokens get the first id after them.
    vocab |= {f"filler{index}": index for index in range(len(vocab), first)}
    vocab |= {token: first + index for index, token in enumerate(REAL_SPECIAL_TOKENS)}
    kwargs = {"eos_token": "<|im_end|>", **kwargs}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[tuple(merge.split()) for merge in _MERGES], **kwargs)
    tokenizer.add_tokens(list(REAL_SPECIAL_TOKENS), special_tokens=True)
    if image_token:
        tokenizer.add_tokens(["<image>"], special_tokens=True)
    return tokenizer


def write_original_folder(folder: Path, config: dict, tokenizer: Qwen2Tokenizer | None = None) -> Path:
    """A checkpoint folder as the authors publish it, without weights: `config.json` and the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    (tokenizer or qwen2_tokenizer(151643, padding_side="right")).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder
