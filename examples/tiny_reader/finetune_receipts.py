# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What LoRA makes of the bundled checkpoint on documents: ANLS on receipts and forms before and after.

    python examples/tiny_reader/finetune_receipts.py

draws 2,000 receipts and forms with a question each ("What is the total?"), and 200 held-out ones in other fonts and
with other layouts, runs `fastvlm finetune`, and prints one table, which `--json` keeps. The old task is reported with
the adapter on. At most 20 minutes on two cores.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from transformers import AutoProcessor

from figures import write_table
from finetune_digits import EXAMPLES, FINETUNE, exact_match, old_tasks
from tiny_reader_data import LETTERS, READING_QUESTION, TRAINING_FONTS, find_fonts
from transformers_fastvlm.evaluation.row_scores import row_score
from transformers_fastvlm.extras import require
from transformers_fastvlm.inference import load_model
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line
from transformers_fastvlm.training.answer_evaluation import read_answers

# All in matplotlib's wheel; the checkpoint has seen none of them.
MORE_FONTS = ["DejaVuSerif.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf"]
HELD_OUT_FONTS = ["STIXGeneralBol.ttf", "DejaVuSans-BoldOblique.ttf"]
# Labels of the lines, and the question for each. The shop stands at the top, without a label.
RECEIPT = {"SHOP": "Which shop is it?", "TOTAL": "What is the total?", "DATE": "What is the date?"}
FORM = {"NAME": "What is the name?", "CITY": "Which city is it?", "CODE": "What is the code?"}


@dataclass(frozen=True)
class Layout:
    """
    Args:
        beside: labels stand left of their values, and not above them.
        right: values end at the right edge.
        ruled: lines between the entries.
        framed: a frame around all of them.
    """

    beside: bool
    right: bool
    ruled: bool
    framed: bool


TRAINING_LAYOUTS = [
    Layout(beside, right, ruled, framed=False)
    for beside, right, ruled in ((True, True, False), (True, False, True), (False, False, False), (False, True, True))
]
HELD_OUT_LAYOUTS = [Layout(True, True, True, framed=True), Layout(False, False, True, framed=True)]


def value_of(rng: random.Random, label: str) -> str:
    if label == "TOTAL":
        return f"{rng.randint(1, 99)}.{rng.randint(0, 99):02}"
    if label == "DATE":
        return f"{rng.randint(1, 28):02}-{rng.randint(1, 12):02}"
    if label == "CODE":
        return str(rng.randint(1000, 99999))
    return "".join(rng.choices(LETTERS, k=rng.randint(3, 7)))


def draw_document(
    rng: random.Random, size: int, fonts: list[Path], layouts: list[Layout]
) -> tuple[Image.Image, str, str]:
    """An image `size` x `size`, a question for one of its entries, and the answer."""
    questions, layout = rng.choice((RECEIPT, FORM)), rng.choice(layouts)
    entries = {label: value_of(rng, label) for label in questions}
    labels = list(entries)
    if questions is FORM:
        rng.shuffle(labels)
    paper, ink = (rng.randrange(225, 256),) * 3, (rng.randrange(0, 70),) * 3
    image = Image.new("RGB", (size, size), paper)
    draw = ImageDraw.Draw(image)
    font_file, margin, band = str(rng.choice(fonts)), size // 16, size // len(labels)
    for row, label in enumerate(labels):
        top, value = row * band + rng.randint(0, band // 8), entries[label]
        is_head = label == "SHOP"
        label_size, value_size = round(band * 0.27), round(band * rng.uniform(0.4, 0.5))
        value_font = fitting(font_file, value, value_size, (0.6 if layout.beside and not is_head else 0.85) * size)
        label_font = ImageFont.truetype(font_file, label_size)
        below = 0 if layout.beside or is_head else round(1.2 * label_size)
        width = draw.textlength(value, value_font)
        left = (size - width) / 2 if is_head else size - margin - width if layout.right else margin
        if layout.beside and not layout.right and not is_head:
            left = margin + draw.textlength(label + " ", label_font)
        if not is_head:
            draw.text((margin, top + (band // 6 if layout.beside else 0)), label, ink, label_font)
        draw.text((left, top + below), value, ink, value_font)
        if layout.ruled and row:
            draw.line((margin, row * band, size - margin, row * band), ink)
    if layout.framed:
        draw.rectangle((2, 2, size - 3, size - 3), outline=ink)
    asked = rng.choice(labels)
    return image, questions[asked], entries[asked]


def fitting(font_file: str, text: str, size: int, width: float) -> ImageFont.FreeTypeFont:
    """The font at that size, or smaller where the text would be wider."""
    font = ImageFont.truetype(font_file, size)
    length = font.getlength(text)
    return font if length <= width else ImageFont.truetype(font_file, int(size * width / length))


def write_documents(folder: Path, size: int, count: int, held_out: bool) -> Path:
    """The documents as PNG files, and a JSONL file of a question each."""
    folder.mkdir(parents=True, exist_ok=True)
    fonts = find_fonts(HELD_OUT_FONTS if held_out else [*TRAINING_FONTS, *MORE_FONTS])
    rng = random.Random(f"receipts {held_out}")
    lines = []
    for index in range(count):
        layouts = HELD_OUT_LAYOUTS if held_out else TRAINING_LAYOUTS
        image, question, answer = draw_document(rng, size, fonts, layouts)
        image.save(folder / f"{index}.png")
        lines.append(json.dumps({"image": f"{index}.png", "question": question, "answer": answer}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "rows.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(EXAMPLES.parent / "checkpoints" / "tiny-reader"))
    parser.add_argument("--work_dir", type=Path, default=Path("receipts"))
    parser.add_argument("--train_size", type=at_least(2), default=2000)
    parser.add_argument("--test_size", type=at_least(1), default=200)
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--json", type=Path, help="write the table to this file")
    arguments, further = parser.parse_known_args()
    require(["datasets", "evaluate", "matplotlib", "peft", "rapidfuzz"], "evaluation,train")

    processor = AutoProcessor.from_pretrained(arguments.model)
    size = processor.image_processor.get_resolution()
    rows = write_documents(arguments.work_dir / "train", size, arguments.train_size, held_out=False)
    test = write_documents(arguments.work_dir / "test", size, arguments.test_size, held_out=True)
    old = old_tasks(size, arguments.test_size)
    words = exact_match(load_model(arguments.model), processor, old, READING_QUESTION)
    folder = arguments.work_dir / "adapter"
    command = [sys.executable, "-m", FINETUNE, "--model", arguments.model, "--dataset", rows, "--output_dir", folder]
    command += ["--eval_dataset", test, "--eval_metric", "anls", "--eval_steps", 250, "--eval_new_tokens", 12]
    command += ["--num_train_epochs", arguments.epochs, "--learning_rate", 2e-3, "--per_device_train_batch_size", 16]
    command += ["--rank", 32, "--alpha", 64, "--adapt_projector", "--adapt_encoder", *further]
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    minutes = (time.perf_counter() - start) / 60
    score = row_score("anls")
    before, after = (score(read_answers(folder / f"answers_{name}.jsonl")) for name in ("before", "after"))
    words_after = exact_match(load_model(arguments.model, adapter=folder), processor, old, READING_QUESTION)
    table = [
        ["before", f"{before:.1%}", f"{words:.1%}", None],
        ["LoRA", f"{after:.1%}", f"{words_after:.1%}", minutes],
    ]
    print(f"{'':8} {'ANLS':>8} {'words':>8} {'minutes':>8}")
    for name, anls, exact, took in table:
        print(f"{name:8} {anls:>8} {exact:>8} {took or 0:8.1f}")
    if arguments.json is not None:
        write_table(arguments.json, ["", "ANLS on documents", "words", "minutes"], table)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
