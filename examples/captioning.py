# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Captions for all images of a folder, in batches, as a JSONL file that `datasets` loads as an image folder.

    python examples/captioning.py
    python examples/captioning.py --model apple/FastVLM-0.5B --folder photos --output photos/metadata.jsonl \\
        --prompt "Describe the image in one sentence."

The bundled checkpoint cannot describe: without arguments it says what is printed on the images beside it.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import AutoProcessor

from transformers_fastvlm import AutoModelForVision2Seq

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny-reader"
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"}


@torch.no_grad()
def captions(model, processor, images: list[Path], prompt: str, max_new_tokens: int) -> list[str]:
    content = [[{"type": "image", "image": str(image)}, {"type": "text", "text": prompt}] for image in images]
    inputs = processor.apply_chat_template(
        [[{"role": "user", "content": each}] for each in content],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    ).to(model.device)
    output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    texts = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(BUNDLED), help="folder or Hub id of any FastVLM checkpoint")
    parser.add_argument("--folder", type=Path, default=BUNDLED / "images")
    parser.add_argument("--prompt", default="What does it say?")
    parser.add_argument("--output", type=argparse.FileType("w", encoding="utf-8"), default=sys.stdout)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForVision2Seq.from_pretrained(arguments.model).to(device).eval()
    processor = AutoProcessor.from_pretrained(arguments.model)
    images = sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    for start in range(0, len(images), arguments.batch_size):
        batch = images[start : start + arguments.batch_size]
        for image, text in zip(batch, captions(model, processor, batch, arguments.prompt, arguments.max_new_tokens)):
            print(json.dumps({"file_name": image.name, "text": text}, ensure_ascii=False), file=arguments.output)


if __name__ == "__main__":
    main()
