# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The card: no number without a file behind it, metadata that the Hub takes, snippets that run."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard
from PIL import ExifTags, Image
from safetensors import safe_open
from transformers import pipeline

from publishing.loopback_hub import client_environment
from running_scripts import run_command
from tiny_models import adapter_for
from transformers_fastvlm import FastVLMConfig
from transformers_fastvlm.programs.files import without_paths
from transformers_fastvlm.publishing.card_material import public_command, read_card_material
from transformers_fastvlm.publishing.card_rules import card_errors
from transformers_fastvlm.publishing.checkpoint_source import CheckpointSource
from transformers_fastvlm.publishing.errors import PublishError
from transformers_fastvlm.publishing.licences import Licence
from transformers_fastvlm.publishing.model_card import write_model_card
from transformers_fastvlm.publishing.publication import publish
from transformers_fastvlm.publishing.publish_settings import PublishSettings
from transformers_fastvlm.publishing.source_files import find_files

BUNDLED = Path(__file__).parents[2] / "checkpoints" / "tiny-reader"
REPO = "acme/reader"
ADAPTER = "acme/reader-lora"
RESULTS = {
    "model": "/home/alice/models/reader",
    "settings": {},
    "command": "fastvlm evaluate --model /home/alice/models/reader --tasks words,shapes",
    "results": [
        {
            "task": "words",
            "dataset_name": "Words",
            "dataset_id": "acme/words",
            "dataset_split": "test",
            "metric": "exact_match",
            "metric_name": "Exact match",
            "value": 86.23456,
            "stderr": 1.0912,
            "samples": 1234,
        },
        {
            "task": "shapes",
            "dataset_name": "Shapes",
            "dataset_id": None,
            "dataset_split": None,
            "metric": "accuracy",
            "metric_name": "Accuracy",
            "value": 71.55,
            "stderr": None,
            "samples": 500,
        },
    ],
}
STAGES = {"preprocess": 0.01, "encoder": 0.2, "projector": 0.003, "prefill": 0.04, "other": 0.001}
BENCHMARK = {
    "benchmark": "ttft",
    "command": "fastvlm bench ttft --model /home/alice/models/reader",
    "date": "2026-01-02",
    "machine": {"cpu": "Abacus 3000", "cpu_flags": ["beads"], "device": "cpu", "threads": 7, "versions": {}},
    "results": {
        "config": {
            "model": "/home/alice/models/reader",
            "resolutions": [192, 384],
            "decoder": "0.5B",
            "dtype": "bfloat16",
            "batch_size": 1,
            "ways": [],
            "image": None,
            "text_tokens": 40,
            "repetitions": 2,
            "device": "cuda:5",
            "peers": ["upstream"],
        },
        "points": [
            {
                "model": "ours",
                "resolution": side,
                "visual_tokens": (side // 64) ** 2,
                "first_token": 0.254321,
                "first_token_spread": 0.0,
                "stages": STAGES,
                "tokens_per_second": None if side == 192 else 48.7654,
                "peak_memory_bytes": 1000,
                "runs": [STAGES | {"decode": 0.02}] * 2,
            }
            for side in (192, 384)
        ],
        "ratios": [],
        "profile": {"shares": [{"name": "mm", "share": 0.5}], "flop": 1000, "flop_per_second": 10.0},
    },
}


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def source(tmp_path):
    """The bundled checkpoint with what a training leaves beside it."""
    folder = tmp_path / "source"
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("images", "evaluation"))
    write_json(
        folder / "trainer_state.json",
        {"global_step": 4321, "epoch": 2.5, "log_history": [{"loss": 9.0}, {"eval_loss": 0.61803}]},
    )
    (folder / "README.md").write_text("---\nlicense: mit\ndatasets:\n- acme/words\n---\n\n# Reader\n")
    return folder


def card_of(source, tmp_path, **changes):
    files = {
        "results": write_json(tmp_path / "results.json", RESULTS),
        "benchmark": write_json(tmp_path / "ttft.json", BENCHMARK),
    }
    settings = PublishSettings(str(source), REPO, **{"remote_code": False, **files, **changes})
    publish(settings, tmp_path / "folder")
    return (tmp_path / "folder" / "README.md").read_text()


def prose(card: str) -> str:
    """A card without its metadata, code, addresses and names that have digits in them."""
    body = card.split("---\n", 2)[2]
    body = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|arXiv [\d.]+", " ", body, flags=re.DOTALL)
    return re.sub(r"Qwen2|Apache-2\.0|Abacus 3000|4-bit weights", " ", body)


def numbers_in(value) -> set[str]:
    """The numbers in a file's content, as they are and as cards round them."""
    if isinstance(value, dict):
        return set().union(*(numbers_in(each) for each in value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*(numbers_in(each) for each in value)) if value else set()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return set()
    return {str(value), f"{value:.1f}", f"{value:.2f}", f"{value * 1e3:.1f}", f"{value:.4g}"}


def sizes_in(weights: Path) -> set[str]:
    """Parameters of each part, counted in the file of weights."""
    counts = {"vision_tower": 0, "projector": 0, "language_model": 0, "lm_head": 0}
    with safe_open(weights, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            size = 1
            for length in file.get_slice(name).get_shape():
                size *= length
            counts[next(part for part in counts if part in name)] += size
    return {f"{count / 1e6:.1f}" for count in counts.values()} | {str(count) for count in counts.values()}


def test_every_number_comes_from_a_file(source, tmp_path):
    pytest.importorskip("matplotlib", reason="the card's picture is drawn with matplotlib (the `bench` extra)")
    card = card_of(source, tmp_path)
    config = json.loads((source / "config.json").read_text())
    known = numbers_in(config) | numbers_in(RESULTS) | numbers_in(BENCHMARK)
    known |= numbers_in(json.loads((source / "trainer_state.json").read_text()))
    known |= sizes_in(tmp_path / "folder" / "model.safetensors")
    vision = config["vision_config"]
    stride, side = 2 ** (len(vision["depths"]) + 1), vision["image_size"]
    tokens = (side // stride) ** 2
    known |= {
        str(len(vision["depths"])),
        str(stride),
        str(2 * vision["hidden_sizes"][-1]),
        str(tokens),
        str(5 * tokens),
    }
    known |= {"2"}  # the grid of 2×2 tiles
    stated = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?", prose(card)))
    assert stated - known == set()
    assert {"86.2", "1.1", "1234", "71.5", "254.3", "48.8", "4321", "2.50", "0.618"} <= stated
    assert (tmp_path / "folder" / "ttft-stages.png").is_file()
    assert "![Time to first token by stage](ttft-stages.png)" in card


def test_a_made_up_number_would_be_seen(source, tmp_path):
    card = card_of(source, tmp_path).replace("## Limits\n", "## Limits\n\nIt is 99.9 % right.\n")
    assert "99.9" in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", prose(card))


def test_metadata(source, tmp_path):
    card = card_of(source, tmp_path, languages=("en", "de"), base_model="acme/base")
    assert card_errors(card) == []
    data = ModelCard(card).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "transformers", "image-text-to-text")
    assert (data.language, data.datasets, data.base_model) == (["en", "de"], ["acme/words"], "acme/base")
    words, shapes = data.eval_results
    assert (words.dataset_type, words.dataset_split, words.metric_type) == ("acme/words", "test", "exact_match")
    assert (words.metric_value, shapes.metric_value) == (86.23, 71.55)
    assert shapes.dataset_type == "shapes"
    assert data.model_name == "reader"


def test_nothing_of_the_users_machine_is_on_it(source, tmp_path):
    card = card_of(source, tmp_path)
    assert "/home" not in card
    assert "fastvlm evaluate --model acme/reader --tasks words,shapes" in card


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fastvlm evaluate --model /home/a/b --x", "fastvlm evaluate --model b --x"),
        ("a --model ~/models/reader", "a --model reader"),
        ("see https://host/a/b and acme/reader", "see https://host/a/b and acme/reader"),
        ("--output=/tmp/x.json", "--output=x.json"),
    ],
)
def test_paths_in_commands(text, expected):
    assert without_paths(text) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results", RESULTS | {"results": [{"task": "words"}]}, "a score without dataset_name, dataset_id"),
        ("results", {"scores": []}, "has no results of `fastvlm evaluate`"),
        ("results", RESULTS | {"results": []}, "has no scores"),
        ("results", [1], "has no results of `fastvlm evaluate`"),
        ("benchmark", {"benchmark": "encoder"}, "not what `fastvlm bench ttft --json` writes"),
    ],
)
def test_files_of_another_kind_are_refused(name, content, message, source, tmp_path):
    path = write_json(tmp_path / "other.json", content)
    with pytest.raises(PublishError, match=message):
        card_of(source, tmp_path, **{name: path})


@pytest.mark.parametrize(
    ("command", "changes", "expected"),
    [
        ("fastvlm evaluate --model=runs/a --tasks words", {}, "fastvlm evaluate --model acme/reader --tasks words"),
        ("fastvlm evaluate --model b --adapter runs/a -x", {}, "fastvlm evaluate --model acme/reader -x"),
        (
            "fastvlm evaluate --model /home/alice/b --adapter runs/a",
            {"adapter": True, "base_model": "acme/base"},
            "fastvlm evaluate --model acme/base --adapter acme/reader",
        ),
    ],
)
def test_commands_are_of_the_repository(command, changes, expected):
    assert public_command(command, PublishSettings("source", REPO, **changes)) == expected


@pytest.mark.parametrize(
    ("changes", "quantization", "packages"),
    [
        ({}, None, ""),
        ({"adapter": True}, None, " peft"),
        ({"variant": "nf4"}, None, " accelerate bitsandbytes"),
        ({"variant": "int8"}, None, " accelerate torchao"),
        ({}, {"quant_method": "bitsandbytes", "load_in_4bit": True}, " accelerate bitsandbytes"),
        ({"adapter": True}, {"quant_method": "bitsandbytes", "load_in_4bit": True}, " peft accelerate bitsandbytes"),
    ],
)
def test_what_readers_install(changes, quantization, packages, tmp_path):
    config = FastVLMConfig.from_pretrained(BUNDLED)
    if quantization:
        config.quantization_config = quantization
    source = CheckpointSource(find_files(str(BUNDLED)), None, "own", config, {}, {})
    settings = PublishSettings(str(BUNDLED), REPO, **changes)
    (tmp_path / "config.json").write_text("{}")
    write_model_card(tmp_path, source, settings, Licence("mit", None, ()), read_card_material(settings, source))
    assert f'pip install "transformers-fastvlm[vision]"{packages}\n' in (tmp_path / "README.md").read_text()


def test_the_example(source, tmp_path):
    """A picture without the place where it was taken, upright, and not too large."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Alice's camera", 6
    Image.new("RGB", (3000, 1500), "red").save(tmp_path / "photo.jpg", exif=exif, comment=b"Alice was here")
    card = card_of(source, tmp_path, example_image=tmp_path / "photo.jpg", example_prompt="Which colour is it?")
    assert ModelCard(card).data.to_dict()["widget"] == [
        {"text": "Which colour is it?", "src": f"https://huggingface.co/{REPO}/resolve/main/example.png"}
    ]
    with Image.open(tmp_path / "folder" / "example.png") as example:
        assert (example.size, dict(example.getexif()), example.info) == ((512, 1024), {}, {})
    assert "conversational" in ModelCard(card).data.tags
    assert card_errors(card.replace("widget:\n- ", "widget:\n  ")) == ['"widget" must be an array']


def test_the_bundled_checkpoint_reads_the_example(tmp_path):
    publish(PublishSettings(str(BUNDLED), REPO, license="apache-2.0", remote_code=False), tmp_path / "folder")
    widget = ModelCard.load(tmp_path / "folder" / "README.md").data.to_dict()["widget"][0]
    content = [{"type": "image", "image": str(tmp_path / "folder" / "example.png")}]
    content += [{"type": "text", "text": widget["text"]}]
    ask = pipeline("image-text-to-text", model=str(tmp_path / "folder"))
    answer = ask(text=[{"role": "user", "content": content}], return_full_text=False, max_new_tokens=8)
    assert answer[0]["generated_text"] == "HELLO"


def test_a_licence_of_ones_own(source, tmp_path):
    (source / "README.md").unlink()
    (tmp_path / "terms.txt").write_text("Only on Sundays.")
    changes = {"license": "other", "license_name": "sundays-1.0", "license_file": tmp_path / "terms.txt"}
    data = ModelCard(card_of(source, tmp_path, **changes)).data.to_dict()
    assert [data[name] for name in ("license", "license_name", "license_link")] == ["other", "sundays-1.0", "LICENSE"]
    assert (tmp_path / "folder" / "LICENSE").read_text() == "Only on Sundays."


def test_without_results_nothing_is_claimed(source, tmp_path):
    (source / "trainer_state.json").unlink()
    card = card_of(source, tmp_path, results=None, benchmark=None)
    assert card_errors(card) == []
    assert not any(title in card for title in ("## Evaluation", "## Time to first token", "model-index"))
    assert "| data | acme/words |" in card


RUNNER = """
import runpy, sys
for name in sys.argv[1:]:
    print(f"--- {name}")
    runpy.run_path(name)
"""


def run_snippets(card: str, folder: Path, environment: dict[str, str]) -> list[str]:
    """What a card's Python snippets print, run one after the other beside a `photo.jpg`."""
    Image.open(BUNDLED / "images" / "sign.png").convert("RGB").save(folder / "photo.jpg")
    snippets = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names = [f"snippet{number}.py" for number in range(len(snippets))]
    for name, snippet in zip(names, snippets):
        (folder / name).write_text(snippet)
    printed = run_command([sys.executable, "-c", RUNNER, *names], environment, folder)
    return re.split(r"--- snippet\d\.py\n", printed)[1:]


def test_the_snippets_run(hub, tmp_path):
    for library in ("peft", "bitsandbytes", "accelerate", "datasets", "openvino", "nncf"):
        pytest.importorskip(library, reason="the snippets use the extras `train`, `quantization`, `inference`")
    settings = PublishSettings(str(BUNDLED), REPO, license="apache-2.0", exports=("openvino:int8",))
    publish(settings, tmp_path / "folder", HfApi())
    assert {"fastvlm", "openvino"} < set(ModelCard.load(REPO).data.tags)
    adapter_for(BUNDLED, tmp_path / "adapter")
    adapter = PublishSettings(str(tmp_path / "adapter"), ADAPTER, adapter=True, base_model=REPO, license="apache-2.0")
    publish(adapter, tmp_path / "adapter_folder", HfApi())
    cards = [hub.snapshot(name)["README.md"].decode() for name in (REPO, ADAPTER)]
    assert [card_errors(card) for card in cards] == [[], []]
    outputs = run_snippets("\n".join(cards), tmp_path, client_environment(hub, tmp_path / "home"))
    assert len(outputs) == 6
    assert "generated_text" in outputs[2]
    assert outputs[0].strip()
    assert outputs[0] != outputs[5]  # the adapter is on
