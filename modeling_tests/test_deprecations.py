"""Nothing of ours uses what the installed libraries deprecate: not by warnings, and not by transformers' log."""

import logging
import warnings
from pathlib import Path

import PIL.Image
import pytest
import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor, TextStreamer, pipeline

import transformers_fastvlm
from tiny_models import write_tiny_checkpoint

PACKAGE = Path(transformers_fastvlm.__file__).parent
MESSAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]


@pytest.fixture
def used(monkeypatch):
    """What is deprecated and was used meanwhile, by warnings that point at us and by transformers' log."""
    records: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record):
            if "deprecat" in record.getMessage().lower():
                records.append(record.getMessage())

    keeper = Keeper()
    logger = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "level", logging.WARNING)
    logger.addHandler(keeper)
    transformers.utils.logging.warning_once.cache_clear()  # earlier tests may have been warned
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield records
    logger.removeHandler(keeper)
    ours = (str(PACKAGE), __file__)
    records += [
        f"{warning.filename}:{warning.lineno}: {warning.message}"
        for warning in caught
        if issubclass(warning.category, (DeprecationWarning, FutureWarning, PendingDeprecationWarning))
        and warning.filename.startswith(ours)
    ]
    assert not records


@pytest.mark.skipif(
    tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 20),
    reason="older transformers' own pipelines use what they deprecate; the newest release's word counts",
)
def test_nothing_deprecated_is_used(used, tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "checkpoint")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    image = PIL.Image.new("RGB", (200, 100), (200, 10, 30))
    prompt = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    inputs = processor(images=[image], text=[prompt], return_tensors="pt")
    for options in (
        {"do_sample": False},
        {"num_beams": 2},
        {"do_sample": True, "num_return_sequences": 2},
        {"cache_implementation": "static", "do_sample": False},
        {"prefill_chunk_size": 3, "do_sample": False},
        {"streamer": TextStreamer(processor.tokenizer), "do_sample": False},
        {"use_cache": False, "do_sample": False},
    ):
        model.generate(**inputs, max_new_tokens=3, **options)
    outputs = model(**inputs, labels=inputs["input_ids"], output_hidden_states=True)
    outputs.loss.backward()
    model.set_attn_implementation("eager")
    model(**inputs, output_attentions=True)
    model.resize_token_embeddings(len(processor.tokenizer) + 8)
    model.model.vision_tower(torch.rand(1, 3, 128, 128), output_hidden_states=True)
    model.save_pretrained(tmp_path / "again")
    processor.save_pretrained(tmp_path / "again")
    pipe = pipeline("image-text-to-text", model=model, processor=processor)
    message = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What?"}]}]
    pipe(text=message, generate_kwargs={"max_new_tokens": 2, "do_sample": False})
