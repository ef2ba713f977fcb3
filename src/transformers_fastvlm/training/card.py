# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The page that goes with an adapter, and the snippet that it shares with those of published checkpoints."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from transformers import AutoConfig

from ..programs.files import without_paths

_USAGE = """\
```python
import transformers_fastvlm  # registers the classes
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{model}")
processor = AutoProcessor.from_pretrained("{model}")

content = [{{"type": "image", "image": "photo.jpg"}}, {{"type": "text", "text": "What is in this picture?"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
output = model.generate(**inputs, max_new_tokens=128)
print(processor.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""

_ADAPTER = """\
The adapter is put on {base_link}{location}, which is loaded with it, also by
`pipeline("image-text-to-text", model="{adapter}")`. `PeftModel.from_pretrained(base, "{adapter}").merge_and_unload()`
adds it to the base's weights for good.
"""

_BODY = """\
# {name}

{what}, trained on {dataset} with [transformers-fastvlm](https://pypi.org/project/transformers-fastvlm).

{usage}
{adapter}
## Training

{command}| | |
|---|---|
{settings}
{picture}
## Results

| | {before_heading}after |
|---|{before_line}---|
{results}
"""
_LICENCE_FIELDS = ("license", "license_name", "license_link")


@dataclass(frozen=True)
class TrainingFacts:
    """
    What a card says of a training.

    Args:
        base_model: Hub id, or folder, of what was adapted.
        dataset: Hub id, file or folder of what it learnt.
        settings: what was chosen, by name.
        results: what came out, by name.
        before: the same of the base model, as far as it is known.
        command: that started it.
        picture: file name of a picture of its course, in the same folder.
        adapter: whether it left an adapter, and not a whole model.
    """

    base_model: str
    dataset: str
    settings: Mapping[str, object]
    results: Mapping[str, float]
    before: Mapping[str, float] = field(default_factory=dict)
    command: str | None = None
    picture: str | None = None
    adapter: bool = True


def usage(model: str) -> str:
    """
    The Python of a card, as Markdown: asking a checkpoint, or an adapter on its base, about an image.

    Args:
        model: Hub id of either; its repository has the processor, too.
    """
    return _USAGE.format(model=model)


def write_adapter_card(folder: str | os.PathLike, facts: TrainingFacts) -> Path:
    """
    Write the `README.md` of what was trained, with its metadata, in place of the form that PEFT or TRL leaves.

    Paths of this machine do not go into it: of a base model or data set in a folder, its name does.

    Args:
        folder: with the adapter, or the model.
        facts: of its training.
    """
    folder = Path(folder)
    local = Path(facts.base_model).exists()
    base = Path(facts.base_model).resolve().name if local else facts.base_model
    name = folder.resolve().name
    data_is_local = Path(facts.dataset).exists()
    data = ModelCardData(
        base_model=None if local else base,
        library_name="peft" if facts.adapter else "transformers",
        pipeline_tag="image-text-to-text",
        tags=["fastvlm", "transformers", *(["lora"] if facts.adapter else [])],
        datasets=None if data_is_local else [facts.dataset],
        **_licence(facts.base_model),
    )
    base_link = f"`{base}`" if local else f"[{base}](https://huggingface.co/{base})"
    where = " at its place on the machine that it was trained on" if local else ""
    body = _BODY.format(
        name=name,
        what=f"A LoRA adapter for {base_link}" if facts.adapter else f"{base_link}, all weights",
        usage=usage(name),
        adapter=f"\n{_ADAPTER.format(base_link=base_link, location=where, adapter=name)}" if facts.adapter else "",
        dataset=Path(facts.dataset).name if data_is_local else facts.dataset,
        command=f"```bash\n{without_paths(facts.command)}\n```\n\n" if facts.command else "",
        settings=_rows((key, str(value)) for key, value in facts.settings.items()),
        picture=f"\n![Loss and metric over the steps]({facts.picture})\n" if facts.picture else "",
        before_heading="before | " if facts.before else "",
        before_line="---|" if facts.before else "",
        results=_rows(_result(facts, key) for key in facts.results),
    )
    path = folder / "README.md"
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}").save(path)
    return path


def _rows(rows: Any) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _result(facts: TrainingFacts, key: str) -> list[str]:
    after = f"{facts.results[key]:.4g}"
    if not facts.before:
        return [key, after]
    return [key, f"{facts.before[key]:.4g}" if key in facts.before else "–", after]


def _licence(base_model: str) -> dict[str, Any]:
    """What the base's card says of its licence, or its configuration; nothing where neither does, or is here."""
    found: dict[str, Any] = {}
    card = Path(base_model) / "README.md"
    try:
        if card.is_file() or not Path(base_model).exists():
            loaded = ModelCard.load(card if card.is_file() else base_model, ignore_metadata_errors=True)
            found = {name: value for name in _LICENCE_FIELDS if (value := loaded.data.get(name)) is not None}
        if "license" not in found:
            named = getattr(AutoConfig.from_pretrained(base_model), "weights_license", None)
            found = {"license": named} if named else {}
    except (OSError, ValueError):  # no card, no network, no such model
        pass
    return found
