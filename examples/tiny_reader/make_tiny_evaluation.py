# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the small evaluation set of the bundled checkpoint: six Parquet files with images that it never saw.

    python examples/tiny_reader/make_tiny_evaluation.py --output_dir checkpoints/tiny-reader/evaluation

Words are held-out ones, on plain and shaded backgrounds and on held-out photographs; shapes are on the latter alone.
The handwritten digits are scikit-learn's, those that `finetune_digits.py` keeps from training. What is drawn depends
on the fonts and photographs that the machine has, so only the committed files make scores comparable. scikit-image
brings one of the two photographs.
"""

import argparse
import io
import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image as PilImage

from finetune_digits import QUESTION as DIGIT_QUESTION
from tiny_reader_data import (
    ALPHABET,
    AMBIGUOUS,
    TRAINING_FONTS,
    Renderer,
    Sample,
    draw_word,
    find_fonts,
    find_photographs,
    is_held_out,
)
from transformers_fastvlm.extras import require
from transformers_fastvlm.programs.files import written_whole
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line

SIZE = 192
CHOICES = 4
CANDIDATES = 10


def encoded(image: PilImage.Image, lossless: bool = False) -> dict[str, bytes | None]:
    file = io.BytesIO()
    image.save(file, "PNG" if lossless else "WEBP", quality=80, method=6)
    return {"bytes": file.getvalue(), "path": None}


def row(sample: Sample) -> dict:
    return {"image": encoded(sample.image), "question": sample.question, "answer": sample.answer}


def words_renderer(**options) -> Renderer:
    return Renderer(SIZE, find_fonts(TRAINING_FONTS), find_photographs(True), True, reading_fraction=1.0, **options)


def reading(count: int) -> list[dict]:
    renderer = words_renderer()
    return [row(renderer.render(f"evaluation reading {index}")) for index in range(count)]


def shapes(count: int, name: str, wanted: Callable[[Sample], bool]) -> list[dict]:
    renderer = Renderer(
        SIZE, find_fonts(TRAINING_FONTS), find_photographs(True), reading_fraction=0.0, photograph_fraction=1.0
    )
    samples = (renderer.render(f"evaluation {name} {index}") for index in range(8 * count))
    return [row(sample) for sample in samples if wanted(sample)][:count]


def digits(count: int) -> list[dict]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    _, test = train_test_split(range(len(data.target)), test_size=400, random_state=0, stratify=data.target)
    return [
        {
            "image": encoded(PilImage.fromarray((255 - data.images[index] * 255 / 16).astype("uint8")), lossless=True),
            "question": DIGIT_QUESTION,
            "answer": str(data.target[index]),
        }
        for index in test[:count]
    ]


def likeness(rng: random.Random, word: str) -> str:
    """Another word with one character changed."""
    place = rng.randrange(len(word))
    others = [
        mark for mark in ALPHABET if mark not in AMBIGUOUS + word[place] and mark.isdigit() == word[place].isdigit()
    ]
    return word[:place] + rng.choice(others) + word[place + 1 :]


def matching(count: int) -> list[dict]:
    renderer, rows = words_renderer(), []
    for index in range(count):
        sample = renderer.render(f"evaluation matching {index}")
        rng = random.Random(f"choices {index}")
        choices = [sample.answer]
        while len(choices) < CHOICES:
            choices += [word for word in [likeness(rng, sample.answer)] if word not in choices]
        rng.shuffle(choices)
        row = {"image": encoded(sample.image), "question": sample.question, "choices": choices}
        rows.append(row | {"label": choices.index(sample.answer)})
    return rows


def retrieval(count: int) -> list[dict]:
    """A word first, then ten that differ in one or two characters, of which one is the same, drawn otherwise."""
    rows = []
    for group in range(-(-count // CANDIDATES)):
        rng = random.Random(f"retrieval {group}")
        first = draw_word(rng, rng.randint(4, 6), held_out=True)
        words = [first]
        while len(words) < CANDIDATES:
            word = likeness(rng, likeness(rng, first))
            words += [word] if is_held_out(word) and word not in words else []
        renderers = [words_renderer(words=[word]) for word in words]
        candidates = [
            encoded(renderer.render(f"candidate {group} {word}").image) for word, renderer in zip(words, renderers)
        ]
        for index, (word, renderer) in enumerate(zip(words, renderers)):
            query = encoded(renderer.render(f"query {group} {word}").image)
            rows.append({"images": [query, *candidates], "answer": str(index)})
    return rows[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--count", type=at_least(1), default=200, help="documents of the larger tasks")
    arguments = parser.parse_args()
    require(["datasets", "pyarrow", "sklearn"], "evaluation")
    import pyarrow.parquet
    from datasets import Dataset, Features, Image, List, Value

    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    text, one_image = Value("string"), {"image": Image(), "question": Value("string")}
    count, fewer = arguments.count, max(CANDIDATES, arguments.count // 2)
    sets = {
        "reading": (reading(count), {**one_image, "answer": text}),
        "counting": (shapes(fewer, "counting", lambda sample: sample.answer.isdigit()), {**one_image, "answer": text}),
        "colours": (
            shapes(fewer, "colours", lambda sample: not sample.answer.isdigit()),
            {**one_image, "answer": text},
        ),
        "digits": (digits(count), {**one_image, "answer": text}),
        "matching": (matching(fewer), {**one_image, "choices": List(text), "label": Value("int64")}),
        "retrieval": (retrieval(fewer), {"images": List(Image()), "answer": text}),
    }
    for name, (rows, features) in sets.items():
        path = arguments.output_dir / f"{name}.parquet"
        # `to_parquet` would write an image once for every row that has it.
        with written_whole(path) as part:
            pyarrow.parquet.write_table(Dataset.from_list(rows, Features(features)).data.table, part)
        print(f"{path}: {len(rows)} documents, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
