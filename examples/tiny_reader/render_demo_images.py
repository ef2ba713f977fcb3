# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures that the demo reads, and `truth.json` with questions and answers.

    python examples/tiny_reader/render_demo_images.py checkpoints/tiny-reader/images

None of the words occurs in the training images, nor does the photograph: Chelsea the cat, by Stefan van der Walt (CC0
licence), from scikit-image. The pictures are larger than what the model sees and not square.
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tiny_reader_data import (
    COLOUR_QUESTION,
    COLOURS,
    COUNT_QUESTION,
    HELD_OUT_FONTS,
    READING_QUESTION,
    TRAINING_FONTS,
    draw_shape,
    find_fonts,
    find_photographs,
    is_held_out,
)
from transformers_fastvlm.programs.mistakes import mistakes_in_one_line


def write_word(image: Image.Image, word: str, font: str, size: int, centre: tuple[int, int], **options) -> Image.Image:
    """Writes `word`, which must be one that training never shows, into `image`."""
    if not is_held_out(word):
        raise ValueError(f"{word} may occur in the training images.")
    if not (paths := find_fonts([font])):
        raise FileNotFoundError(f"The font {font} is not installed.")
    ImageDraw.Draw(image).text(centre, word, font=ImageFont.truetype(paths[0], size), anchor="mm", **options)
    return image


def photograph() -> Image.Image:
    path = next((path for path in find_photographs(held_out=True) if path.name == "chelsea.png"), None)
    if path is None:
        raise FileNotFoundError("The photograph chelsea.png comes inside scikit-image: pip install scikit-image")
    with Image.open(path) as image:
        return image.convert("RGB")


def shaded(width: int, height: int, left: tuple[int, int, int], right: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), left)
    image.putpixel((1, 0), right)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def shapes(width: int, height: int, drawn: list[tuple[str, str, int, int]]) -> Image.Image:
    rng = random.Random(0)
    image = Image.new("RGB", (2 * width, 2 * height), (205, 200, 190))
    draw = ImageDraw.Draw(image)
    for shape, colour, x, y in drawn:
        draw_shape(draw, shape, 2 * x, 2 * y, 76, rng.uniform(0, 6), COLOURS[colour])
    return image.reduce(2)


def demo_pictures() -> dict[str, tuple[Image.Image, str, str]]:
    """File name to picture, question and answer."""
    held_out, bold = HELD_OUT_FONTS[-1], TRAINING_FONTS[1]
    outline = {"fill": "white", "stroke_width": 6, "stroke_fill": "black"}
    circles = [("circle", "blue", 80, 70), ("circle", "red", 300, 90), ("star", "yellow", 190, 160)]
    circles += [("circle", "green", 90, 230), ("square", "purple", 310, 220)]
    pictures = {
        "cat.jpg": (write_word(photograph(), "MEOW", held_out, 96, (225, 240), **outline), "MEOW"),
        "sign.png": (
            write_word(shaded(400, 300, (20, 60, 120), (40, 90, 160)), "HELLO", bold, 84, (200, 120)),
            "HELLO",
        ),
        "plate.png": (
            write_word(Image.new("RGB", (420, 180), (240, 200, 40)), "7F2C9", bold, 88, (210, 90), fill=(20, 20, 20)),
            "7F2C9",
        ),
        "label.png": (
            write_word(
                Image.new("RGB", (320, 420), (235, 235, 230)), "2026", held_out, 92, (150, 290), fill=(160, 30, 40)
            ),
            "2026",
        ),
    }
    questions = {name: (image, READING_QUESTION, answer) for name, (image, answer) in pictures.items()}
    picture = shapes(400, 300, circles)
    questions["circles.png"] = (picture, COUNT_QUESTION.format(kind="circle"), "3")
    questions["star.png"] = (
        picture.transpose(Image.Transpose.ROTATE_90),
        COLOUR_QUESTION.format(kind="star"),
        "yellow",
    )
    return questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    truth = []
    for name, (image, question, answer) in demo_pictures().items():
        image.save(folder / name, **({"quality": 90} if name.endswith(".jpg") else {"optimize": True}))
        truth.append({"image": name, "question": question, "answer": answer})
    (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
