# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The page that goes with an adapter, and the snippet that it shares with those of published checkpoints."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

_USAGE = """\
```python
import transformers_fastvlm  # registers the classes
{import_peft}from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{model}")
{add_adapter}processor = AutoProcessor.from_pretrained("{processor}")

content = [{{"type": "image", "image": "photo.jpg"}}, {{"type": "text", "text": "What is in this picture?"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
output = model.generate(**inputs, max_new_tokens=128)
print(processor.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```"""

_BODY = """\
# {name}

A LoRA adapter for {base_link}, trained on {dataset} with \
[transformers-fastvlm](https://pypi.org/project/transformers-fastvlm).

{usage}

`model.merge_and_unload()` adds the adapter to the weights for good.

## Training

| | |
|---|---|
{settings}

## Results

| | |
|---|---|
{results}
"""


def usage(model: str, adapter: str | None = None) -> str:
    """
    The Python of a card, as Markdown: asking a checkpoint about an image.

    Args:
        model: Hub id of the checkpoint, of the base of an adapter.
        adapter: Hub id of a LoRA adapter to put on it; its repository has the processor, too.
    """
    return _USAGE.format(
        model=model,
        processor=adapter or model,
        import_peft="from peft import PeftModel\n" if adapter else "",
        add_adapter=f'model = PeftModel.from_pretrained(model, "{adapter}")\n' if adapter else "",
    )


def write_adapter_card(
    folder: str | Path, base_model: str, dataset: str, settings: dict[str, object], results: dict[str, float]
) -> Path:
    """
    Write an adapter's `README.md`, with its metadata, in place of the empty form that PEFT leaves.

    Args:
        base_model: the Hub id, or the folder, of what was adapted.
        dataset: the Hub id, or the folder, of what it learnt.
        settings: what was chosen, by name.
        results: what came out, by name.
    """
    path = Path(folder) / "README.md"
    local = Path(base_model).exists()
    name = Path(base_model).name if local else base_model
    data = ModelCardData(
        base_model=None if local else base_model,
        library_name="peft",
        pipeline_tag="image-text-to-text",
        tags=["lora", "fastvlm", "transformers"],
        datasets=None if Path(dataset).exists() else [dataset],
    )
    body = _BODY.format(
        name=Path(folder).resolve().name,
        usage=usage(name, Path(folder).resolve().name),
        base_link=f"`{name}`" if local else f"[{name}](https://huggingface.co/{name})",
        dataset=Path(dataset).name if Path(dataset).exists() else dataset,
        settings="\n".join(f"| {name} | {value} |" for name, value in settings.items()),
        results="\n".join(f"| {name} | {value:.4g} |" for name, value in results.items()),
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}").save(path)
    return path
