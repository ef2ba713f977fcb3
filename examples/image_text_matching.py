# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Which text belongs to which image: how likely each is as the answer, by the log-likelihood of its tokens.

    python examples/image_text_matching.py
    python examples/image_text_matching.py --model apple/FastVLM-0.5B --image a.jpg --image b.jpg \\
        --text "A dog on a beach." --text "A city at night." --prompt "Describe the image in one sentence."
"""

import argparse
from pathlib import Path

import torch

from transformers_fastvlm.image_reading import read_image
from transformers_fastvlm.inference import ModelOptions, load, score_continuations, to_messages
from transformers_fastvlm.programs.mistakes import mistakes_in_one_line

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny-reader"
IMAGES = [str(BUNDLED / "images" / name) for name in ("label.png", "plate.png", "sign.png")]
TEXTS = ["2026", "2025", "7F2C9", "7E2C9", "HELLO", "HALLO"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(BUNDLED), help="folder or Hub id of any FastVLM checkpoint")
    parser.add_argument("--image", action="append", help="may be given several times")
    parser.add_argument("--text", action="append", help="may be given several times")
    parser.add_argument("--prompt", default="What does it say?", help="the question that the texts answer")
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, processor = load(ModelOptions(arguments.model), device)
    texts = arguments.text or TEXTS
    print(f"{'image':20} " + " ".join(f"{text:>12}" for text in texts))
    for path in arguments.image or IMAGES:
        conversation = to_messages(arguments.prompt, [read_image(path)])
        scores = score_continuations(model, processor, [conversation] * len(texts), texts)
        losses = torch.tensor([loss for loss, _ in scores])  # mean per token, so that long texts have a chance
        shares = " ".join(f"{share:12.1%}" for share in losses.neg().softmax(0).tolist())
        print(f"{Path(path).name:20} {shares}  {texts[int(losses.argmin())]}")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
