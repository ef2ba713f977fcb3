"""Exports for other runtimes, behind `generate`: the model's answers, in batches, at other sizes, with beams."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from transformers_fastvlm import AutoModelForVision2Seq, FastVLMProcessor
from transformers_fastvlm.cli import app
from transformers_fastvlm.export import load_onnx, load_openvino
from transformers_fastvlm.export.exported_model import ExportedFastVLMForConditionalGeneration
from transformers_fastvlm.outputs_fastvlm import CACHE_NAME

LOADERS = {"onnx": load_onnx, "openvino": load_openvino}
WEIGHTS = {"onnx": "onnx/decoder_model_merged.onnx_data", "openvino": "openvino_language_model.bin"}
LIBRARIES = {"onnx": ("onnxscript", "export"), "openvino": ("nncf", "inference")}
READER = Path(__file__).parents[2] / "checkpoints" / "tiny-reader"


@pytest.fixture(scope="module", params=LOADERS)
def target(request) -> str:
    library, extra = LIBRARIES[request.param]
    pytest.importorskip(library, reason=f"--to {request.param} needs the `{extra}` extra")
    return request.param


@pytest.fixture(scope="module")
def folder(target, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(target) / "reader"
    done = CliRunner().invoke(app, ["export", str(READER), "--to", target, "--output", str(folder)])
    assert done.exit_code == 0, done.output
    assert "3 of 3 answers are the same" in " ".join(done.output.split())
    return folder


@pytest.fixture(scope="module")
def exported(target, folder) -> ExportedFastVLMForConditionalGeneration:
    return LOADERS[target](folder, threads=1)


@pytest.fixture(scope="module")
def model():
    return AutoModelForVision2Seq.from_pretrained(READER).eval()


@pytest.fixture(scope="module")
def processor(folder) -> FastVLMProcessor:
    """Of the exported folder itself."""
    return FastVLMProcessor.from_pretrained(folder)


def questions() -> list[dict[str, str]]:
    return json.loads((READER / "images" / "truth.json").read_text())


def inputs_of(processor, *asked, **options):
    conversations = [
        [{"role": "user", "content": [*({"type": "image", "image": image} for image in images), _text(question)]}]
        for images, question in asked
    ]
    return processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, **options},
    )


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def picture(name: str) -> Image.Image:
    return Image.open(READER / "images" / name)


def test_it_reads_the_bundled_pictures_as_the_model_does(exported, model, processor):
    for row in questions():
        inputs = inputs_of(processor, ([picture(row["image"])], row["question"]))
        expected = model.generate(**inputs, max_new_tokens=8)
        assert torch.equal(exported.generate(**inputs, max_new_tokens=8), expected)
        logits, theirs = exported(**inputs).logits, model(**inputs).logits
        torch.testing.assert_close(logits, theirs, atol=1e-3, rtol=1e-4)


MIXED = [(["sign.png"], "What does it say?"), ([], "What is it?"), (["cat.jpg", "star.png"], "Which is the text?")]


@pytest.mark.parametrize("size", [128, 320])
def test_batches_of_different_prompts_at_other_sizes(size, exported, model, processor):
    asked = [([picture(name) for name in names], question) for names, question in MIXED]
    inputs = inputs_of(processor, *asked, size=size)
    options = {"max_new_tokens": 6, "do_sample": False}
    expected = model.generate(**inputs, **options)
    assert torch.equal(exported.generate(**inputs, **options), expected)
    beams = {"num_beams": 3, "num_return_sequences": 2, **options}
    assert torch.equal(exported.generate(**inputs, **beams), model.generate(**inputs, **beams))


def test_sampling_and_going_on_from_a_cache(exported, model, processor):
    inputs = inputs_of(processor, ([picture("plate.png")], "What does it say?"))
    answers = []
    for each in (exported, model):
        torch.manual_seed(3)
        sampled = each.generate(**inputs, max_new_tokens=6, do_sample=True, temperature=1.5)
        first = each.generate(**inputs, max_new_tokens=4, do_sample=False, return_dict_in_generate=True)
        longer = torch.cat([first.sequences, torch.tensor([[5, 6, 7]])], dim=1)
        rest = each.generate(
            longer, attention_mask=torch.ones_like(longer), max_new_tokens=4, **{CACHE_NAME: first[CACHE_NAME]}
        )
        answers.append((sampled, rest))
    for ours, theirs in zip(*answers):
        assert torch.equal(ours, theirs)


def test_bad_input_is_refused_as_by_the_model(exported, processor):
    inputs = inputs_of(processor, ([picture("sign.png")], "What does it say?"))
    with pytest.raises(ValueError, match="placeholder"):
        exported.generate(input_ids=inputs["input_ids"], max_new_tokens=2)
    with pytest.raises(ValueError, match="either"):
        exported()


def test_nothing_of_this_machine_is_in_the_files(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"site-packages" not in content, path
            assert str(READER.parent).encode() not in content, path


def test_files_that_are_cut_off_or_missing_are_named(target, folder, tmp_path):
    copy, load = shutil.copytree(folder, tmp_path / "copy"), LOADERS[target]
    weights = copy / WEIGHTS[target]
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(OSError, match=rf"{WEIGHTS[target]} has 1000 bytes of \d+"):
        load(copy)
    weights.unlink()
    with pytest.raises(OSError, match=f"{WEIGHTS[target]} is missing"):
        load(copy)
    (copy / "export.json").unlink()
    with pytest.raises(OSError, match="has no export.json"):
        load(copy)
