# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The paper's training stages in miniature: from a fresh encoder and a fresh decoder to a model that answers.

    python examples/tiny_reader/tiny_stages.py

draws coloured shapes, runs `train_stages.py` with each of the recipes in turn, at sizes that two cores train in
minutes, and prints how many of held-out questions for a colour are answered right, beside what guessing would give.
`--json` keeps the table.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from transformers import Qwen2ForCausalLM, set_seed

from figures import write_table
from tiny_reader_data import COLOUR_QUESTION, COLOURS, SHAPES, draw_shape
from tiny_reader_model import build_config, build_tokenizer
from transformers_fastvlm import FastViTHDModel, FastVLMForConditionalGeneration, FastVLMProcessor
from transformers_fastvlm.evaluation.row_scores import row_score
from transformers_fastvlm.extras import require
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line
from transformers_fastvlm.training import RowFormat, answer_questions
from transformers_fastvlm.training.row_questions import read_question

EXAMPLES = Path(__file__).resolve().parents[1]
RESOLUTION = 128
# Images of each stage by its recipe's name, as shares of `--images`.
STAGES = {"1": 0.5, "1.5": 1.0, "2": 1.0, "3": 0.5}


def draw_row(rng: random.Random, path: Path) -> dict[str, str]:
    """One shape on grey, as a row with a question for its colour, and with a caption."""
    image = Image.new("RGB", (RESOLUTION, RESOLUTION), (rng.randrange(90, 170),) * 3)
    kind, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    radius = rng.uniform(0.2, 0.4) * RESOLUTION
    x, y = (rng.uniform(radius, RESOLUTION - radius) for _ in range(2))
    draw_shape(ImageDraw.Draw(image), kind, x, y, radius, rng.uniform(0, 6), COLOURS[colour])
    image.save(path)
    return {
        "image": path.name,
        "question": COLOUR_QUESTION.format(kind=kind),
        "answer": colour,
        "caption": f"{colour} {kind}",
    }


def write_rows(folder: Path, name: str, count: int) -> list[dict[str, str]]:
    """Rows and their images, and files of them as captions and as questions."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(name)
    rows = [draw_row(rng, folder / f"{name}-{index}.png") for index in range(count)]
    for layout, wanted in (("captions", ("caption",)), ("questions", ("question", "answer"))):
        lines = [json.dumps({key: row[key] for key in ("image", *wanted)}) for row in rows]
        (folder / f"{name}-{layout}.jsonl").write_text("\n".join(lines))
    return rows


def write_parts(folder: Path) -> list[str]:
    """A fresh encoder and a fresh decoder; the options that name them."""
    set_seed(0)
    tokenizer = build_tokenizer()
    config = build_config(tokenizer, RESOLUTION, reparameterized=False)
    FastViTHDModel(config.vision_config).save_pretrained(folder / "encoder")
    Qwen2ForCausalLM(config.text_config).save_pretrained(folder / "decoder")
    tokenizer.save_pretrained(folder / "decoder")
    return ["--encoder", str(folder / "encoder"), "--decoder", str(folder / "decoder")]


def run_stage(stage: str, data: Path, start: list[str], output: Path, *further: str) -> None:
    """The stage's recipe, with what is smaller here."""
    command = [sys.executable, str(EXAMPLES / "train_stages.py"), *start, "--dataset", str(data)]
    command += ["--recipe", str(EXAMPLES / "recipes" / f"stage_{stage}.yaml"), "--output_dir", str(output)]
    command += ["--resolution", str(RESOLUTION), "--batch_size", "16", "--per_device_train_batch_size", "16"]
    command += ["--learning_rate", "2e-3" if stage == "1" else "1e-3", "--bf16", "false"]
    command += ["--gradient_checkpointing", "false", "--save_strategy", "no", "--report_to", "none", *further]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def exact_match(folder: Path, rows: list[dict[str, str]], images: Path) -> float:
    """Share of the questions that the model answers as the rows do."""
    model = FastVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = FastVLMProcessor.from_pretrained(folder)
    asked = [
        read_question({**row, "source_root": str(images)}, RowFormat(layout="question"), processor.image_token)
        for row in rows
    ]
    batches = (asked[start : start + 50] for start in range(0, len(asked), 50))
    answers = [answer for batch in batches for answer in answer_questions(model, processor, batch, 8)]
    return row_score("exact_match")(answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, default=Path("stages"))
    parser.add_argument("--images", type=at_least(16), default=4000, help="of a whole stage")
    parser.add_argument("--test_size", type=at_least(1), default=200)
    parser.add_argument("--json", type=Path, help="write the table to this file")
    arguments, further = parser.parse_known_args()
    require(["accelerate", "datasets", "evaluate"], "train")

    images = arguments.work_dir / "images"
    held_out = write_rows(images, "test", arguments.test_size)
    start, rows = write_parts(arguments.work_dir), []
    for stage, share in STAGES.items():
        write_rows(images, f"stage{stage}", max(16, round(share * arguments.images)))
        layout = "captions" if stage in ("1", "1.5") else "questions"
        output = arguments.work_dir / f"stage{stage}"
        began = time.perf_counter()
        run_stage(stage, images / f"stage{stage}-{layout}.jsonl", start, output, *further)
        minutes = (time.perf_counter() - began) / 60
        score = exact_match(output, held_out, images)
        start = ["--model", str(output)]
        print(
            f"stage {stage:4} {score:6.1%} right, guessing {1 / len(COLOURS):.1%}, {minutes:.1f} minutes", flush=True
        )
        rows.append([stage, layout, f"{score:.1%}", f"{1 / len(COLOURS):.1%}", minutes])
    if arguments.json is not None:
        write_table(arguments.json, ["stage", "trained on", "colours right", "guessing", "minutes"], rows)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
