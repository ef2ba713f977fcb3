# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A question to a document of several pages: every page is asked, and the answer is the one the model is surest of.

    python examples/document_questions.py
    python examples/document_questions.py --model apple/FastVLM-0.5B --page 1.png --page 2.png \\
        --question "What is the total?" --tile --expected "$12.50"

`--tile` shows each page as an overview and 2x2 tiles, four times the pixels. With an expected answer, it prints ANLS,
the score of DocVQA.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoProcessor

from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.evaluation import load_metric
from transformers_fastvlm.programs.mistakes import mistakes_in_one_line

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny-reader"
PAGES = [str(BUNDLED / "images" / name) for name in ("label.png", "plate.png")]


@torch.no_grad()
def answer_and_certainty(model, processor, page: str, question: str, tile: bool) -> tuple[str, float]:
    """The answer, and the geometric mean of its tokens' probabilities."""
    content = [{"type": "image", "image": page}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"do_tile": tile},
    ).to(model.device)
    found = model.generate(
        **inputs, max_new_tokens=64, do_sample=False, return_dict_in_generate=True, output_scores=True
    )
    scores = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
    text = processor.decode(found.sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip(), float(scores[0].mean().exp())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(BUNDLED), help="folder or Hub id of any FastVLM checkpoint")
    parser.add_argument("--page", action="append", help="an image file; may be given several times")
    parser.add_argument("--question", default="What does it say?")
    parser.add_argument("--expected", action="append", help="an accepted answer; may be given several times")
    parser.add_argument("--tile", action="store_true")
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForVision2Seq.from_pretrained(arguments.model).to(device).eval()
    processor = AutoProcessor.from_pretrained(arguments.model)
    found = []
    for page in arguments.page or PAGES:
        found.append(answer_and_certainty(model, processor, page, arguments.question, arguments.tile))
        print(f"{Path(page).name:20} {found[-1][0]:30} {found[-1][1]:.1%}")
    answer, _ = max(found, key=lambda pair: pair[1])
    print(f"Answer: {answer}")
    if arguments.expected:
        score = load_metric("anls").compute(predictions=[answer], references=[arguments.expected])
        print(f"ANLS: {score['anls']:.2f}")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
