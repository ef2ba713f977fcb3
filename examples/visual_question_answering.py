# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Several questions about one image, answered as one batch; the image is encoded once.

    python examples/visual_question_answering.py
    python examples/visual_question_answering.py --model apple/FastVLM-0.5B --image photo.jpg \\
        --question "What is on the table?" --question "How many people are there?"
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoProcessor

from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny-reader"
QUESTIONS = ["Which colour is the star?", "Which colour is the square?", "How many circles are there?"]


@torch.no_grad()
def answers(model, processor, image: str, questions: list[str], max_new_tokens: int) -> list[str]:
    content = [[{"type": "image", "image": image}, {"type": "text", "text": question}] for question in questions]
    inputs = processor.apply_chat_template(
        [[{"role": "user", "content": each}] for each in content],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    ).to(model.device)
    pixels = inputs.pop("pixel_values")[:1].to(model.dtype)
    encoded = model.get_image_features(pixels)
    encoded.pooler_output = encoded.pooler_output.expand(len(questions), -1, -1)  # (questions, tokens, hidden)
    output = model.generate(
        **inputs, mm_encoder_outputs={"image": encoded}, max_new_tokens=max_new_tokens, do_sample=False
    )
    return processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(BUNDLED), help="folder or Hub id of any FastVLM checkpoint")
    parser.add_argument("--image", default=str(BUNDLED / "images" / "star.png"))
    parser.add_argument("--question", action="append", help="may be given several times")
    parser.add_argument("--max-new-tokens", type=at_least(1), default=64)
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForVision2Seq.from_pretrained(arguments.model).to(device).eval()
    processor = AutoProcessor.from_pretrained(arguments.model)
    questions = arguments.question or QUESTIONS
    for question, answer in zip(
        questions, answers(model, processor, arguments.image, questions, arguments.max_new_tokens)
    ):
        print(f"{question:40} {answer.strip()}")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
