# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What LoRA and QLoRA make of a checkpoint that never saw handwriting: exact match before and after.

    python examples/tiny_reader/finetune_digits.py

takes the handwritten digits that ship inside scikit-learn, asks "Which digit is this?", runs `fastvlm finetune` three
times, the last with a fifth of the rows from the old task, and prints one table, which `--json` keeps, as in
`docs/figures`; the old task is reported with the adapter off and on. Without arguments, on the bundled checkpoint;
some minutes on two cores.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor

from figures import write_table
from tiny_reader_data import READING_QUESTION, TRAINING_FONTS, Renderer, find_fonts, find_photographs
from transformers_fastvlm.evaluation import load_metric
from transformers_fastvlm.extras import require
from transformers_fastvlm.inference import load_model
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line

EXAMPLES = Path(__file__).resolve().parents[1]
FINETUNE = "transformers_fastvlm.scripts.finetune_lora"
QUESTION = "Which digit is this?"


def write_digits(folder: Path, test_size: int) -> tuple[Path, list[tuple[Path, str]]]:
    """The digits as PNG files and a JSONL file of the training split; and the held-out images with their answers."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    rows = []
    for index, (pixels, digit) in enumerate(zip(digits.images, digits.target)):
        path = folder / f"{index}.png"
        Image.fromarray((255 - pixels * 255 / 16).astype("uint8")).save(path)
        rows.append((path, str(digit)))
    train, test = train_test_split(rows, test_size=test_size, random_state=0, stratify=digits.target)
    lines = []
    for path, digit in train:
        turns = [{"role": "user", "content": f"<image>\n{QUESTION}"}, {"role": "assistant", "content": digit}]
        lines.append(json.dumps({"images": [path.name], "messages": turns}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "train.jsonl", test


@torch.no_grad()
def exact_match(model, processor, tasks: list[tuple[Path | Image.Image, str]], question: str) -> float:
    """Share of `(image, answer)` that greedy decoding answers as told, by the metric of that name."""
    metric = load_metric("exact_match")
    content = [{"type": "image"}, {"type": "text", "text": question}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    for start in range(0, len(tasks), 50):
        batch = tasks[start : start + 50]
        images = [[Image.open(image) if isinstance(image, Path) else image] for image, _ in batch]
        inputs = processor(images=images, text=[prompt] * len(batch), return_tensors="pt").to(model.device)
        output = model.generate(**inputs, max_new_tokens=10, do_sample=False)
        answers = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        metric.add_batch(predictions=answers, references=[answer for _, answer in batch])
    return metric.compute()["exact_match"]


def old_tasks(size: int, count: int) -> list[tuple[Image.Image, str]]:
    """Images of words that the checkpoint never saw, and the words."""
    renderer = Renderer(size, find_fonts(TRAINING_FONTS), find_photographs(held_out=True), True, reading_fraction=1.0)
    samples = [renderer.render(f"digits {index}") for index in range(count)]
    return [(sample.image, sample.answer) for sample in samples]


def write_replay(folder: Path, size: int, count: int) -> Path:
    """Rows like those that the checkpoint was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    renderer = Renderer(
        size, find_fonts(TRAINING_FONTS), find_photographs(held_out=False), False, reading_fraction=1.0
    )
    lines = []
    for index in range(count):
        sample = renderer.render(f"replay {index}")
        sample.image.save(folder / f"{index}.png")
        lines.append(json.dumps({"image": f"{index}.png", "question": READING_QUESTION, "answer": sample.answer}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "rows.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(EXAMPLES.parent / "checkpoints" / "tiny-reader"))
    parser.add_argument("--work_dir", type=Path, default=Path("digits"))
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--test_size", type=at_least(1), default=400)
    parser.add_argument("--replayed", type=at_least(1), default=2000, help="rows of the old task to draw from")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    arguments, further = parser.parse_known_args()
    require(["datasets", "evaluate", "matplotlib", "peft", "sklearn"], "train")

    data, test = write_digits(arguments.work_dir / "images", arguments.test_size)
    processor = AutoProcessor.from_pretrained(arguments.model)
    size = processor.image_processor.get_resolution()
    old = old_tasks(size, arguments.test_size)
    replay = write_replay(arguments.work_dir / "replay", size, arguments.replayed)
    base = load_model(arguments.model)
    print(f"{'':18} {'digits':>8} {'words':>8} {'words, adapter off':>20} {'minutes':>8}")
    before = exact_match(base, processor, test, QUESTION)
    words = exact_match(base, processor, old, READING_QUESTION)
    print(f"{'before':18} {before:8.1%} {words:8.1%} {words:20.1%}")
    rows = [["before", f"{before:.1%}", f"{words:.1%}", f"{words:.1%}", None]]
    ways = (("LoRA", []), ("QLoRA", ["--load_in_4bit"]), ("LoRA, 20 % replay", ["--replay", str(replay)]))
    for name, options in ways:
        folder = arguments.work_dir / name.split(",")[0].lower() / ("replay" if "--replay" in options else "digits")
        command = [sys.executable, "-m", FINETUNE, "--model", arguments.model, "--dataset", data]
        command += ["--output_dir", folder, "--num_train_epochs", arguments.epochs, "--learning_rate", 2e-3]
        command += ["--per_device_train_batch_size", 16, "--adapt_projector", "--adapt_encoder", *options, *further]
        start = time.perf_counter()
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        minutes = (time.perf_counter() - start) / 60
        model = load_model(
            arguments.model, adapter=folder, quantization="nf4" if "--load_in_4bit" in options else None
        )
        scores = [exact_match(model, processor, test, QUESTION)]
        scores.append(exact_match(model, processor, old, READING_QUESTION))
        with model.disable_adapter():
            scores.append(exact_match(model, processor, old, READING_QUESTION))
        print(f"{name:18} {scores[0]:8.1%} {scores[1]:8.1%} {scores[2]:20.1%} {minutes:8.1f}", flush=True)
        rows.append([name, *(f"{score:.1%}" for score in scores), minutes])
    if arguments.json is not None:
        write_table(arguments.json, ["", "digits", "words", "words, adapter off", "minutes"], rows)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
