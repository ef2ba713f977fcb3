"""What faster answers cost, by answers of the bundled checkpoint to images it never saw."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples" / "tiny_reader"))

pytest.importorskip("openvino", reason="OpenVINO comes with the `inference` extra")
pytest.importorskip("nncf", reason="calibration needs NNCF (the `inference` extra)")
pytest.importorskip("accelerate.utils", reason="the evaluation is part of a training script (the `train` extra)")

from tiny_reader_data import TRAINING_FONTS, Renderer, find_fonts, find_photographs
from tiny_reader_model import Collator, build_tokenizer
from train_tiny_reader import evaluation_sets, exact_match
from transformers_fastvlm import FastVLMForConditionalGeneration
from transformers_fastvlm.inference import optimize_for_inference
from transformers_fastvlm.inference.linear_layers import int8_is_fast

SIZE = 192


def reader(dtype: torch.dtype = torch.float32) -> FastVLMForConditionalGeneration:
    return FastVLMForConditionalGeneration.from_pretrained(ROOT / "checkpoints" / "tiny-reader", dtype=dtype)


def calibration(collator: Collator) -> torch.Tensor:
    renderer = Renderer(SIZE, find_fonts(TRAINING_FONTS), find_photographs(held_out=False), reading_fraction=0.5)
    return collator.pixels([renderer.render(f"calibration {index}") for index in range(128)])


def scores(model, collator: Collator, count: int) -> dict[str, float]:
    """Points of exact match: words, and shapes, of which counting is the harder half."""
    sets = evaluation_sets(SIZE, count)
    samples = {
        "words": sets["new words"],
        "shapes": sets["counting, new photographs"] + sets["colours, new photographs"],
    }
    return {name: 100 * exact_match(model, collator, each) for name, each in samples.items()}


@pytest.mark.slow
@pytest.mark.skipif(not int8_is_fast(), reason="int8 is for CPUs with VNNI instructions")
def test_int8_loses_at_most_a_point_of_exact_match(tmp_path):
    collator = Collator(build_tokenizer(), SIZE)
    before = scores(reader(), collator, 1000)
    pixels = calibration(collator)
    for parts in (["encoder"], ["decoder"], ["encoder", "decoder"]):
        model = reader()
        optimize_for_inference(model, "eager" if parts == ["decoder"] else "openvino", parts, pixels, tmp_path)
        after = scores(model, collator, 1000)
        print(parts, {name: f"{before[name]:.1f} -> {after[name]:.1f}" for name in before})
        assert all(after[name] >= before[name] - 1 for name in before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_openvino_answers_as_pytorch(tmp_path, dtype):
    collator = Collator(build_tokenizer(), SIZE)
    expected = scores(reader(), collator, 60)
    model = reader(dtype)
    optimize_for_inference(model, "openvino", cache_dir=tmp_path)
    difference = 0 if dtype == torch.float32 else 100 / 60 + 1e-9  # one answer
    found = scores(model, collator, 60)
    assert all(abs(found[name] - expected[name]) <= difference for name in expected)
