# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Items like a given one, by what they look like and what they are called.

    python examples/recommendation.py
    python examples/recommendation.py --model apple/FastVLM-0.5B --catalogue shop/metadata.jsonl \\
        --image photo.jpg --text "a red summer dress" --image-weight 0.7

A catalogue is a JSONL file with a `file_name` relative to itself and a `text` per line, as `captioning.py` writes.
Images are compared by the encoder's CLIP embedding, or by its mean features where the checkpoint has no CLIP head;
texts by the mean of the decoder's hidden states. Without arguments, the bundled checkpoint and the images beside it.
"""

import argparse
import json
from pathlib import Path

import torch

from transformers_fastvlm.image_reading import read_image
from transformers_fastvlm.inference import ModelOptions, image_embeddings, load
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line
from transformers_fastvlm.training.sources import JsonLines

BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "tiny-reader"


def read_catalogue(path: Path | None) -> list[tuple[Path, str]]:
    if path is None:
        truth = json.loads((BUNDLED / "images" / "truth.json").read_text())
        return [(BUNDLED / "images" / task["image"], task["answer"]) for task in truth]
    rows = list(JsonLines(path).rows())
    if any(not isinstance(row.get(name), str) for row in rows for name in ("file_name", "text")) or not rows:
        raise ValueError(f"{path} needs a `file_name` and a `text` in every line.")
    return [(path.parent / row["file_name"], row["text"]) for row in rows]


@torch.no_grad()
def text_embeddings(model, processor, texts: list[str]) -> torch.Tensor:
    """One vector of length 1 per text, `(texts, hidden)`."""
    means = []
    for text in texts:
        ids = processor.tokenizer(text, return_tensors="pt").input_ids.to(model.device)
        means.append(model.model.language_model(input_ids=ids).last_hidden_state[0].float().mean(0))
    return torch.nn.functional.normalize(torch.stack(means), dim=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(BUNDLED), help="folder or Hub id of any FastVLM checkpoint")
    parser.add_argument("--catalogue", type=Path)
    parser.add_argument("--image", help="what the items should look like")
    parser.add_argument("--text", help="what they should be called")
    parser.add_argument("--image-weight", type=float, default=0.5, help="0 to 1; the text has the rest")
    parser.add_argument("--count", type=at_least(1), default=3)
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, processor = load(ModelOptions(arguments.model), device)
    items = read_catalogue(arguments.catalogue)
    if arguments.image is None and arguments.text is None:
        arguments.image, arguments.text = map(str, items.pop(0))
        print(f"Like {Path(arguments.image).name}, {arguments.text}:")
    scores = torch.zeros(len(items))
    if arguments.image is not None:
        images = [read_image(path) for path in (arguments.image, *(path for path, _ in items))]
        embeddings = image_embeddings(model, processor, images).cpu()
        scores += arguments.image_weight * (embeddings[1:] @ embeddings[0])
    if arguments.text is not None:
        embeddings = text_embeddings(model, processor, [arguments.text, *(text for _, text in items)]).cpu()
        scores += (1 - arguments.image_weight) * (embeddings[1:] @ embeddings[0])
    for index in scores.argsort(descending=True)[: arguments.count].tolist():
        path, text = items[index]
        print(f"{scores[index]:.3f}  {path.name:20} {text}")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
