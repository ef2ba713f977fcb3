# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Asks a FastVLM about images and shows how long its first token takes.

    python examples/read_images.py
    python examples/read_images.py --model apple/FastVLM-0.5B --image photo.jpg --question "What does the sign say?"

Without arguments it takes the bundled checkpoint and the images beside it, whose answers are known.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import AutoProcessor
from transformers.generation.streamers import BaseStreamer

from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny-reader"


class FirstTokenClock(BaseStreamer):
    """Notes when the first new token arrives; `generate` sends the prompt before it."""

    def __init__(self):
        self.arrivals: list[float] = []

    def put(self, value):
        self.arrivals.append(time.perf_counter())

    def end(self):
        pass


def answer(model, processor, image: Path, question: str, max_new_tokens: int) -> tuple[str, float]:
    """The model's answer, and the seconds from opening the image file to the first token."""
    content = [{"type": "image", "image": str(image)}, {"type": "text", "text": question}]
    start = time.perf_counter()
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    clock = FirstTokenClock()
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, streamer=clock)
    text = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip(), clock.arrivals[1] - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(BUNDLED), help="folder or Hub id of any FastVLM checkpoint")
    parser.add_argument("--image", type=Path, help="an image file")
    parser.add_argument("--question", default="What does it say?")
    parser.add_argument("--max-new-tokens", type=at_least(1), default=64)
    arguments = parser.parse_args()

    if arguments.image is not None:
        tasks = [{"image": arguments.image, "question": arguments.question, "answer": ""}]
    else:
        folder = BUNDLED / "images"
        tasks = json.loads((folder / "truth.json").read_text())
        tasks = [task | {"image": folder / task["image"]} for task in tasks]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForVision2Seq.from_pretrained(arguments.model).to(device).eval()
    processor = AutoProcessor.from_pretrained(arguments.model)
    answer(model, processor, tasks[0]["image"], tasks[0]["question"], 1)  # warm-up

    print(f"{'image':28} {'question':36} {'answer':10} {'truth':10} first token")
    right = 0
    for task in tasks:
        text, seconds = answer(model, processor, task["image"], task["question"], arguments.max_new_tokens)
        right += text == task["answer"]
        name = task["image"].name
        print(f"{name:28} {task['question']:36} {text:10} {task['answer']:10} {1000 * seconds:8.1f} ms")
    if arguments.image is None:
        print(f"{right} of {len(tasks)} right")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
