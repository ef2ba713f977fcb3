"""A photograph's way to pixels, ours and others'."""

import pytest

from photograph_preprocessing import run_preprocessing_benchmark


def test_photographs_become_the_originals_pixels():
    pytest.importorskip("torchvision", reason="upstream's image processor needs torchvision (the `vision` extra)")
    timings, differences = run_preprocessing_benchmark(repetitions=1, warmup=0)
    assert list(timings) == ["ours", "ours-torchvision", "upstream-padded", "upstream"]
    assert differences["ours"] == 0
    assert 0 < differences["ours-torchvision"] < 2.5 / 255
    assert differences["upstream"] > 0.1
