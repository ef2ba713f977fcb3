"""The checkpoint in the repository: small, without code of its own, and it answers from the image."""

import json
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoProcessor, pipeline

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "checkpoints" / "tiny-reader"
sys.path.insert(0, str(ROOT / "examples"))

from read_images import answer
from transformers_fastvlm import AutoModelForVision2Seq

TASKS = json.loads((BUNDLED / "images" / "truth.json").read_text())
MARKS = {"circles.png": [pytest.mark.xfail(strict=True, reason="it counts 2 of the 3 circles")]}


@pytest.fixture(scope="module")
def model():
    return AutoModelForVision2Seq.from_pretrained(BUNDLED).eval()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(BUNDLED)


def test_model_tokenizer_and_processor_have_at_most_8_megabytes_and_no_code():
    files = [path for path in BUNDLED.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    assert not [path.name for path in files if path.suffix in (".py", ".bin", ".pt", ".pkl")]
    assert "auto_map" not in (BUNDLED / "config.json").read_text()


@pytest.mark.parametrize(
    "task", [pytest.param(task, id=task["image"], marks=MARKS.get(task["image"], [])) for task in TASKS]
)
def test_it_reads_the_images_of_the_demo(task, model, processor):
    before = time.perf_counter()
    text, seconds = answer(model, processor, BUNDLED / "images" / task["image"], task["question"], 12)
    assert text == task["answer"]
    assert 0 < seconds < time.perf_counter() - before  # to the first of several tokens
    assert text not in [other["answer"] for other in TASKS if other["image"] != task["image"]]


def test_batches_are_answered_as_single_prompts_are(model, processor):
    chats = []
    for task in TASKS:
        content = [{"type": "image", "path": str(BUNDLED / "images" / task["image"])}]
        chats.append([{"role": "user", "content": [*content, {"type": "text", "text": task["question"]}]}])
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}

    def answers(conversations: list) -> list[str]:
        inputs = processor.apply_chat_template(conversations, **options, processor_kwargs={"padding": True})
        output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        return processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    expected = [answers([chat])[0] for chat in chats]
    assert answers(chats) == expected
    answering = pipeline("image-text-to-text", model=model, processor=processor, batch_size=2)
    generated = answering(text=chats, max_new_tokens=12, do_sample=False, return_full_text=False)
    assert [each[0]["generated_text"] for each in generated] == expected
