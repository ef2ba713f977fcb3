# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The snippets of README and guides run as they stand, on the bundled checkpoint in place of the authors' one."""

import re
import shutil
from pathlib import Path

import pytest

from transformers_fastvlm import AutoModelForVision2Seq, cpu_kernels

ROOT = Path(__file__).parent.parent
TINY_READER = ROOT / "checkpoints" / "tiny-reader"
PAGES = [ROOT / "hub_upload" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [path for path in PAGES if "```python" in path.read_text(encoding="utf-8")]
REPLACED = {
    "apple/FastVLM-0.5B": str(TINY_READER),
    '"checkpoints/tiny-reader"': f'"{TINY_READER}"',
    "What is in this picture?": "What does it say?",
    "HfApi()": "None",  # without it, publishing stops before anything is sent
}
# What snippets import, and the libraries behind it.
NEEDS = {
    "peft": ("peft", "accelerate"),
    "transformers_fastvlm.evaluation": ("evaluate", "rapidfuzz"),
    "transformers_fastvlm.export": ("openvino", "nncf"),
    "transformers_fastvlm.inference": ("openvino", "nncf"),
    "transformers_fastvlm.quantization": ("bitsandbytes", "accelerate"),
    "transformers_fastvlm.training": ("accelerate", "datasets"),
}


def snippets(path: Path) -> list[tuple[int, str]]:
    """The Python snippets of a page, each with the number of its first line."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, match.start()) + 2, match[1]) for match in found]


def run(path: Path, wanted: slice = slice(None)) -> None:
    """Run a page's snippets one after another, as a reader does; a traceback shows the page's lines."""
    namespace: dict = {"__name__": "snippet"}
    for line, snippet in snippets(path)[wanted]:
        for module, libraries in NEEDS.items():
            if re.search(rf"^from {re.escape(module)} import", snippet, re.MULTILINE):
                for library in libraries:
                    pytest.importorskip(library, reason=f"line {line} of {path.name} needs {library}")
        if "int8=" in snippet:
            from transformers_fastvlm.inference.linear_layers import int8_is_fast

            if not int8_is_fast():
                pytest.skip(f"line {line} of {path.name}: int8 is for CPUs with VNNI instructions")
        for old, new in REPLACED.items():
            snippet = snippet.replace(old, new)
        exec(compile("\n" * (line - 1) + snippet, str(path), "exec"), namespace)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory with what snippets name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cpu_kernels, "KERNELS", dict(cpu_kernels.KERNELS))  # a guide adds one
    monkeypatch.setattr("transformers_fastvlm.inference.openvino_encoder.HF_HOME", str(tmp_path / "cache"))
    shutil.copyfile(TINY_READER / "images" / "cat.jpg", "photo.jpg")
    shutil.copyfile(TINY_READER / "images" / "sign.png", "sign.png")
    return tmp_path


def write_adapter(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from transformers_fastvlm.training import lora_target_modules

    model = AutoModelForVision2Seq.from_pretrained(TINY_READER)
    get_peft_model(model, LoraConfig(r=2, target_modules=lora_target_modules(model))).save_pretrained(folder)


def test_readme_begins_with_answers(here, capsys):
    run(ROOT / "README.md", slice(0, 2))
    assert capsys.readouterr().out.split() == ["MEOW", "MEOW"]  # printed, and streamed


def test_everything_in_the_readme_runs(here):
    run(ROOT / "README.md")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_everything_in_a_guide_runs(guide, here):
    if '"adapter")' in guide.read_text(encoding="utf-8"):
        for library in NEEDS["peft"] + NEEDS["transformers_fastvlm.training"]:
            pytest.importorskip(library, reason=f"{guide.name} needs {library}")
        write_adapter(here / "adapter")
    run(guide)


def test_the_readme_can_be_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
