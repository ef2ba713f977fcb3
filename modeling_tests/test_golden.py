# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The reference outputs in the repository are those they were copied from, and the fixture for empty memory fills it.

Every other test reads the copy alone.
"""

import json

import numpy as np
import PIL.Image
import pytest
import torch

from conftest import GOLDEN, ORIGIN_OF_GOLDEN
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil


@pytest.mark.skipif(not ORIGIN_OF_GOLDEN.is_dir(), reason="there is no ../shared/golden beside this checkout")
def test_the_copy_is_what_it_was_copied_from():
    copied = [path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(copied) >= 10
    cases = "preprocessing/cases.json"
    for path in copied:
        if str(path) != cases:
            assert (GOLDEN / path).read_bytes() == (ORIGIN_OF_GOLDEN / path).read_bytes(), path
    ours, theirs = (json.loads((folder / cases).read_text()) for folder in (GOLDEN, ORIGIN_OF_GOLDEN))
    assert all(case in theirs for case in ours)
    for case in theirs:  # some are too large to copy
        names = (f"{case['name']}_{part}.png" for part in ("input", f"expected_{case['resolution']}"))
        image, expected = (PIL.Image.open(ORIGIN_OF_GOLDEN / "preprocessing" / name) for name in names)
        pixels = FastVLMImageProcessorPil(size=case["resolution"])(image, return_tensors="np").pixel_values[0]
        assert np.array_equal(np.rint(pixels * 255), np.moveaxis(np.asarray(expected), -1, 0)), case


@pytest.mark.usefixtures("nan_in_uninitialized_memory")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_uninitialized_memory_is_filled_with_nan(dtype):
    like = torch.zeros(2, 3, 4, 5, dtype=dtype).contiguous(memory_format=torch.channels_last)
    for memory in (
        torch.empty(1000, dtype=dtype),
        torch.empty_like(like),
        like.new_empty(2, 3),
        torch.zeros(0, dtype=dtype).resize_(7),
    ):
        assert memory.isnan().all()
