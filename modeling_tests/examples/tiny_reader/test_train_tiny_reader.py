# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The script that trains the bundled checkpoint, `examples/tiny_reader/train_tiny_reader.py`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer

TINY_READER = Path(__file__).parents[3] / "examples" / "tiny_reader"
sys.path.insert(0, str(TINY_READER))

from tiny_reader_data import ALPHABET, COUNT_QUESTION, READING_QUESTION, SHAPES, Renderer
from tiny_reader_model import (
    MARKS,
    NO_LOSS,
    NOTHING,
    Collator,
    TinyReaderForTraining,
    build_config,
    build_tokenizer,
    mean_over_answers,
)
from train_tiny_reader import write_bundle
from transformers_fastvlm import AutoModelForVision2Seq


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def collator(tokenizer):
    return Collator(tokenizer, size=128)


@pytest.fixture(scope="module")
def samples():
    renderer = Renderer()
    return [renderer.render(seed) for seed in range(12)]


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return TinyReaderForTraining(build_config(tokenizer, 128, reparameterized=False))


@pytest.fixture(scope="module")
def bundle(model, tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    torch.manual_seed(0)
    write_bundle(
        TinyReaderForTraining(build_config(tokenizer, 128, reparameterized=False)).vlm, build_tokenizer(), folder
    )
    return folder


def test_answers_are_spelt_by_character_and_prompts_by_word(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer(ALPHABET).input_ids) == list(ALPHABET)
    assert len(tokenizer(READING_QUESTION).input_ids) == 5
    assert len(tokenizer("<|im_start|><image><|im_end|>").input_ids) == 3


def test_the_collator_gives_what_the_processor_gives(bundle, collator, samples):
    processor = AutoProcessor.from_pretrained(bundle)
    batch = collator(samples)
    for row, sample in enumerate(samples):
        content = [{"type": "image", "image": sample.image}, {"type": "text", "text": sample.question}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        prompt = inputs["input_ids"][0].tolist()
        assert collator.prompt(sample.question) == prompt
        assert batch["input_ids"][row, : len(prompt)].tolist() == prompt
        torch.testing.assert_close(batch["pixel_values"][row], inputs["pixel_values"][0], atol=1e-6, rtol=0)


def test_the_loss_covers_the_answer_and_its_end_alone(collator, samples, tokenizer):
    batch = collator(samples)
    for labels, sample in zip(batch["labels"], samples):
        learned = labels[labels != NO_LOSS]
        assert tokenizer.decode(learned) == sample.answer + "<|im_end|>"


def test_auxiliary_targets_spell_the_word(collator, samples):
    batch = collator(samples)
    for row, sample in enumerate(samples):
        if sample.question != READING_QUESTION:
            continue
        by_place = batch["places"][row].flatten(1).amin(1)  # (8,)
        assert "".join(MARKS[index] for index in by_place if index < NOTHING) == sample.answer
        assert (batch["orders"][row] != NO_LOSS).sum() == (batch["cells"][row] != NOTHING).sum()


def test_auxiliary_targets_tell_the_shapes(collator, samples):
    batch = collator(samples)
    for row, sample in enumerate(samples):
        if sample.question == READING_QUESTION:
            assert (batch["counts"][row] == 0).all()
            continue
        asked = next(kind for kind in SHAPES if kind in sample.question)
        count = int(batch["counts"][row, SHAPES.index(asked)].sum())
        if sample.question == COUNT_QUESTION.format(kind=asked):
            assert str(count) == sample.answer
        else:
            assert count == 1
            assert MARKS[batch["places"][row, SHAPES.index(asked)].amin()] == f"{sample.answer} {asked}"


def test_every_answer_counts_the_same():
    logits = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[NO_LOSS, 3, 4, 5], [NO_LOSS, NO_LOSS, 7, NO_LOSS]])
    log_probabilities = logits.log_softmax(-1)
    long = -(log_probabilities[0, 0, 3] + log_probabilities[0, 1, 4] + log_probabilities[0, 2, 5]) / 3
    short = -log_probabilities[1, 1, 7]
    torch.testing.assert_close(mean_over_answers(logits, labels), (long + short) / 2)


def test_one_batch_can_be_learned_by_heart(model, collator, samples):
    batch = collator(samples[:6])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    first = None
    for _ in range(15):
        losses = model(**batch)
        first = first or {name: loss.item() for name, loss in losses.items()}
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(losses[name].item() < 0.8 * first[name] for name in first)


def test_without_the_decoder_only_the_encoder_learns(tokenizer, collator, samples):
    model = TinyReaderForTraining(build_config(tokenizer, 128, reparameterized=False))
    model.train_decoder(False)
    losses = model(**collator(samples[:4]))
    assert "answer_loss" not in losses
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in model.vlm.model.language_model.parameters())
    assert model.vlm.model.vision_tower.stem[0].conv_branch.conv.weight.grad.abs().sum() > 0


def test_the_bundle_is_small_fused_and_loads_in_float32(bundle):
    assert sum(file.stat().st_size for file in bundle.rglob("*")) < 8e6
    model = AutoModelForVision2Seq.from_pretrained(bundle)
    assert model.dtype == torch.float32
    assert model.config.vision_config.reparameterized
    assert AutoTokenizer.from_pretrained(bundle).eos_token == "<|im_end|>"
    processor = AutoProcessor.from_pretrained(bundle)
    inputs = processor(images=Image.new("RGB", (300, 200)), text="<image>", return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 128, 128)


def test_training_goes_on_from_a_bundle_with_fewer_blocks(model, bundle, tokenizer, collator, samples, tmp_path):
    config = build_config(tokenizer, 128, reparameterized=True)
    config.vision_config.depths = [1, 3, 3, 2, 1]
    deeper = TinyReaderForTraining(config)
    deeper.start_from(bundle)
    before = AutoModelForVision2Seq.from_pretrained(bundle).model.vision_tower(collator(samples)["pixel_values"])
    after = deeper.vlm.model.vision_tower.eval()(collator(samples)["pixel_values"])
    change = (after.last_hidden_state - before.last_hidden_state).norm() / before.last_hidden_state.norm()
    assert 0 < change < 0.2
    with pytest.raises(ValueError, match="does not fit"):
        TinyReaderForTraining(build_config(tokenizer, 128, reparameterized=False)).start_from(bundle)


def test_the_script_runs_from_end_to_end(tmp_path):
    pytest.importorskip("accelerate.utils", reason="transformers' Trainer needs accelerate (the `train` extra)")
    command = [sys.executable, str(TINY_READER / "train_tiny_reader.py"), "--smoke"]
    command += ["--output_dir", str(tmp_path / "bundle"), "--work_dir", str(tmp_path / "state")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    losses = [float(loss) for loss in re.findall(r"'answer_loss': '?([\d.]+)", done.stdout)]
    assert len(losses) >= 2
    assert losses[-1] < losses[0]
    assert "new words" in done.stdout
    AutoModelForVision2Seq.from_pretrained(tmp_path / "bundle")
