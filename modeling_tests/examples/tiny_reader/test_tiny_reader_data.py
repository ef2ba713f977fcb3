# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The renderer of the bundled checkpoint's training images, `examples/tiny_reader/tiny_reader_data.py`."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "tiny_reader"))

from tiny_reader_data import (
    AMBIGUOUS,
    COLOURS,
    DIGITS,
    HELD_OUT_FONTS,
    HELD_OUT_PHOTOGRAPHS,
    MAX_SHAPES,
    PHOTOGRAPH_FOLDERS,
    READING_QUESTION,
    SHAPES,
    TRAINING_FONTS,
    Renderer,
    draw_word,
    is_held_out,
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    """Two noisy pictures in place of photographs, one of them smaller than the rendered images."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.RandomState(0)
    paths = []
    for name, (height, width) in {"large.png": (200, 300), "small.png": (60, 40)}.items():
        paths.append(folder / name)
        Image.fromarray(generator.randint(0, 256, (height, width, 3)).astype(np.uint8)).save(paths[-1])
    return paths


def test_a_sample_follows_from_its_seed_alone(photographs):
    one, two = Renderer(photographs=photographs), Renderer(photographs=photographs)
    two.render("another sample in between")
    for seed in ("a", "b", "c", "d"):
        first, second = one.render(seed), two.render(seed)
        assert first.image.tobytes() == second.image.tobytes()
        assert (first.question, first.answer, first.marks) == (second.question, second.answer, second.marks)


@pytest.mark.parametrize("size", [128, 192])
def test_every_sample_is_an_rgb_square_with_marks_inside(size, photographs):
    renderer = Renderer(size, photographs=photographs, max_words=4)
    for index in range(150):
        sample = renderer.render(index, difficulty=index % 11 / 10)
        assert sample.image.mode == "RGB"
        assert sample.image.size == (size, size)
        assert all(0 <= x < size and 0 <= y < size for _, x, y, _ in sample.marks)


def test_the_answer_to_a_word_is_its_characters_from_left_to_right():
    renderer = Renderer(reading_fraction=1.0)
    for index in range(100):
        sample = renderer.render(index)
        assert sample.question == READING_QUESTION
        assert "".join(mark for mark, *_ in sample.marks) == sample.answer
        assert [place for *_, place in sample.marks] == list(range(len(sample.answer)))
        positions = [x for _, x, _, _ in sample.marks]
        assert positions == sorted(positions)


def test_marks_lie_on_the_ink():
    # On a plain background, what differs from it near a mark is the character itself. Large round ones are hollow.
    renderer = Renderer(reading_fraction=1.0)
    inked = []
    for index in range(200):
        sample = renderer.render(index)
        pixels = np.asarray(sample.image.convert("L")).astype(int)
        if (pixels == np.bincount(pixels.ravel()).argmax()).mean() < 0.7:
            continue  # shaded or noisy
        for _, x, y, _ in sample.marks:
            around = pixels[max(int(y) - 8, 0) : int(y) + 9, max(int(x) - 4, 0) : int(x) + 5]
            inked.append(np.ptp(around) > 40)
    assert len(inked) > 100
    assert np.mean(inked) > 0.95


def test_answers_about_shapes_follow_from_the_marks():
    renderer = Renderer(reading_fraction=0.0)
    counts, colours = set(), set()
    for index in range(300):
        sample = renderer.render(index)
        kind = next(kind for kind in SHAPES if kind in sample.question)
        drawn = [mark.split()[0] for mark, *_ in sample.marks if mark.endswith(kind)]
        assert {SHAPES[place] for *_, place in sample.marks} == {mark.split()[1] for mark, *_ in sample.marks}
        if sample.question.startswith("How many"):
            assert sample.answer == str(len(drawn))
            counts.add(len(drawn))
        else:
            assert [sample.answer] == drawn
            colours.add(sample.answer)
    assert counts == set(range(MAX_SHAPES + 1))
    assert colours == set(COLOURS)


def test_words_for_training_and_evaluation_never_meet():
    rng = random.Random(0)
    training = {draw_word(rng, length, held_out=False) for length in range(2, 9) for _ in range(200)}
    evaluation = {draw_word(rng, length, held_out=True) for length in range(2, 9) for _ in range(50)}
    assert not training & evaluation
    assert not any(map(is_held_out, training))
    assert all(map(is_held_out, evaluation))


def test_no_word_is_ambiguous():
    rng = random.Random(0)
    for _ in range(3000):
        word = draw_word(rng, rng.randint(1, 8), held_out=None)
        if any(letter in word for letter in AMBIGUOUS):
            assert not any(digit in word for digit in DIGITS)
            assert set(word) - set(AMBIGUOUS)


def test_fonts_and_photographs_for_training_and_evaluation_are_disjoint():
    assert not set(TRAINING_FONTS) & set(HELD_OUT_FONTS)
    listed = {name for *_, names in PHOTOGRAPH_FOLDERS for name in names.split()}
    assert set(HELD_OUT_PHOTOGRAPHS) < listed


def test_easy_words_are_short():
    renderer = Renderer(reading_fraction=1.0)
    assert max(len(renderer.render(index, difficulty=0.0).answer) for index in range(100)) == 3
    assert max(len(renderer.render(index, difficulty=1.0).answer) for index in range(100)) == 8
