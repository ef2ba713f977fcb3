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
from pathlib import Path

import torch
from transformers import AutoProcessor

from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.programs.files import write_text
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line, require_writable

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
    parser.add_argument("--output", type=Path, help="by default they are printed")
    parser.add_argument("--batch-size", type=at_least(1), default=8)
    parser.add_argument("--max-new-tokens", type=at_least(1), default=64)
    arguments = parser.parse_args()
    if arguments.output is not None:
        require_writable(arguments.output, "--output")
    images = sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise ValueError(f"There are no images in {arguments.folder}.")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForVision2Seq.from_pretrained(arguments.model).to(device).eval()
    processor = AutoProcessor.from_pretrained(arguments.model)
    lines = []
    for start in range(0, len(images), arguments.batch_size):
        batch = images[start : start + arguments.batch_size]
        for image, text in zip(batch, captions(model, processor, batch, arguments.prompt, arguments.max_new_tokens)):
            lines.append(json.dumps({"file_name": image.name, "text": text}, ensure_ascii=False))
            if arguments.output is None:
                print(lines[-1], flush=True)
    if arguments.output is not None:
        write_text(arguments.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
