"""The documents that the bundled checkpoint is taught: legible, with questions, nothing held out in both sets."""

import json
import random
import sys
from pathlib import Path

import pytest

for library in ("datasets", "evaluate", "sklearn"):
    pytest.importorskip(library, reason=f"the script needs {library} (the `train` extra)")
sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "tiny_reader"))

import finetune_receipts as receipts
from tiny_reader_data import TRAINING_FONTS, find_fonts


def test_a_document_has_the_answer_to_its_question(monkeypatch):
    drawn = []
    text = receipts.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        receipts.ImageDraw.ImageDraw,
        "text",
        lambda self, place, words, *rest: (drawn.append(words), text(self, place, words, *rest)),
    )
    fonts = find_fonts(TRAINING_FONTS)
    questions = set()
    for seed in range(40):
        del drawn[:]
        layouts = receipts.HELD_OUT_LAYOUTS if seed % 2 else receipts.TRAINING_LAYOUTS
        image, question, answer = receipts.draw_document(random.Random(seed), 192, fonts, layouts)
        assert image.size == (192, 192)
        assert answer in drawn
        questions.add(question)
    assert questions == {*receipts.RECEIPT.values(), *receipts.FORM.values()}


def test_held_out_documents_have_other_fonts_and_layouts(tmp_path):
    fonts = {path.name for path in find_fonts([*TRAINING_FONTS, *receipts.MORE_FONTS])}
    held_out = {path.name for path in find_fonts(receipts.HELD_OUT_FONTS)}
    assert fonts
    assert held_out
    assert not fonts & held_out
    assert not set(receipts.TRAINING_LAYOUTS) & set(receipts.HELD_OUT_LAYOUTS)
    rows = receipts.write_documents(tmp_path, 192, 3, held_out=True)
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [set(row) for row in written] == [{"image", "question", "answer"}] * 3
    assert all((tmp_path / row["image"]).is_file() for row in written)


def test_long_values_are_made_to_fit():
    (font, *_) = find_fonts(TRAINING_FONTS)
    assert receipts.fitting(str(font), "WWWWWWW", 60, 100).getlength("WWWWWWW") <= 100
    assert receipts.fitting(str(font), "I", 20, 100).size == 20
