"""`fastvlm data`: what it says of data sets, and the picture that it draws."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from chat_rows import make_processor, picture, png
from transformers_fastvlm.cli import app
from transformers_fastvlm.training import RowFormat
from transformers_fastvlm.training.inspection import _lines, draw_rows, quantile
from transformers_fastvlm.training.rows import encode_row

for library in ("accelerate.utils", "datasets", "matplotlib"):
    pytest.importorskip(library, reason="the command needs the `train` extra")


def run(*arguments: object):
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def source(tmp_path):
    """Four rows: two that are good, one without its image, one that is no JSON."""
    (tmp_path / "a.png").write_bytes(png(picture()))
    rows = [
        {"question": "What does it say?", "answer": "HELLO", "image": "a.png"},
        {"question": "What does it say?", "answer": "A cat, and some more words.", "image": ["a.png", "a.png"]},
        {"question": "What does it say?", "answer": "HELLO", "image": "b.png"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "no JSON"]))
    return path


def test_what_was_recognised_and_what_cannot_be_trained_on(source):
    result = run(source)
    assert result.exit_code == 0, result.output
    layout, rows, tokens, images = result.stdout.splitlines()
    assert layout == "Layout: questions and answers in `question`, `answer`, images in `image`."
    assert rows.startswith("4 rows, 2 left out, 1 with a missing or unreadable image (lines 3), 1 with no JSON")
    first, last = (int(word) for word in tokens.split(",")[0].removeprefix("Tokens of a row: ").split(" to "))
    assert 10 < first < last
    assert images == "Rows by their images: 1 with 1, 1 with 2."


def test_options_are_those_of_training(source):
    assert "no known layout" in run(source, "--layout", "caption").stdout
    assert run(source, "--max-samples", "2").stdout.splitlines()[1] == "2 rows, 0 left out."
    assert "no column 'photo'" in run(source, "--images-column", "photo").stderr
    assert "There is no file" in run(source.parent / "other.jsonl").stderr
    assert "faulty-rows" not in run("--help").output


def test_the_picture_shows_images_and_what_is_learnt(source, tmp_path):
    result = run(source, "--picture", tmp_path / "rows.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "rows.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    blue = (np.abs(pixels - (0x00, 0x72, 0xB2)).max(1) < 8).sum()
    assert blue > 50  # letters of the answers


def test_a_row_in_lines_with_what_is_learnt_alone():
    processor = make_processor()
    text, _ = encode_row(processor, {"question": "What is it?", "answer": "A cat.", "image": picture()}, RowFormat())
    lines = list(_lines(processor, text))
    assert [line for line, colour in lines if colour != lines[0][1]] == ["A cat.<|im_end|>"]
    assert any("[4 visual tokens]" in line for line, _ in lines)


def test_rows_without_images_are_drawn(tmp_path):
    row = {"question": "Why?", "answer": "$5 and ü." + "word " * 400}
    draw_rows([row], make_processor(), RowFormat(), tmp_path / "rows.png")
    assert (tmp_path / "rows.png").stat().st_size > 0


@pytest.mark.parametrize(("share", "value"), [(0.0, 3), (0.5, 3), (0.6, 4), (1.0, 9)])
def test_quantiles_of_counts(share, value):
    assert quantile(Counter({3: 5, 4: 3, 9: 2}), share) == value
