"""The training benchmark: what it trains, its arithmetic and errors. No test looks at how long anything took."""

import json

import pytest
from transformers import AutoConfig
from typer.testing import CliRunner

from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.benchmark.configurations import TrainingBenchmarkConfig
from transformers_fastvlm.benchmark.timing import Timing
from transformers_fastvlm.benchmark.training import (
    METHOD_SUBJECTS,
    TrainingPoint,
    build_trainable,
    make_batch,
    measure_method,
)
from transformers_fastvlm.cli import app

pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sizes = {"hidden_size": 64, "intermediate_size": 128}
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), **sizes))


def test_each_method_trains_what_it_says(folder):
    config = TrainingBenchmarkConfig(folder)
    names = {
        method: {
            name for name, parameter in build_trainable(config, method).named_parameters() if parameter.requires_grad
        }
        for method in ("lora", "full")
    }
    assert all("lora_" in name and "language_model" in name for name in names["lora"])
    assert any("vision_tower" in name for name in names["full"])
    assert not any("lora_" in name for name in names["full"])


def test_batches_have_an_image_and_text_per_example(folder):
    config = TrainingBenchmarkConfig(folder, batch_size=3, text_tokens=20)
    batch = make_batch(config, AutoConfig.from_pretrained(folder))
    assert batch["input_ids"].shape == (3, 20 + 4)
    assert (batch["labels"] != -100).sum() == 3 * 10
    assert batch["pixel_values"].shape == (3, 3, 128, 128)


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_measurement(folder, gradient_checkpointing):
    config = TrainingBenchmarkConfig(
        folder, text_tokens=20, steps=2, warmup=0, gradient_checkpointing=gradient_checkpointing
    )
    point = measure_method(config, METHOD_SUBJECTS["lora"])
    assert len(point.timing.seconds) == 2
    assert point.tokens == 24
    assert point.timing.peak_memory > 1e7


def test_cached_features_give_the_same_loss_without_pixels(folder):
    config = TrainingBenchmarkConfig(folder, text_tokens=20)
    subjects = METHOD_SUBJECTS["lora"], METHOD_SUBJECTS["lora-cached"]
    model = subjects[0].build(config)
    batches = [subject.batch(config, model) for subject in subjects]
    assert "pixel_values" not in batches[1]
    losses = [model.eval()(**batch).loss.item() for batch in batches]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_throughput_is_of_the_median_step():
    assert TrainingPoint("lora", Timing((1.0, 2.0, 9.0)), tokens=300, trainable=1).tokens_per_second() == 150


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("dora",)}, r"Unknown methods \['dora'\]"),
        ({"methods": ()}, "at least one method"),
        ({"steps": 0}, "at least 1"),
        ({"dtype": "float16"}, "not 'float16'"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingBenchmarkConfig("model", **options)


def test_the_command_prints_a_table_and_writes_json(folder, tmp_path):
    command = ["bench", "train", "--model", folder, "--methods", "lora", "--steps", "2", "--text-tokens", "20"]
    result = CliRunner().invoke(app, [*command, "--json", str(tmp_path / "result.json")])
    assert result.exit_code == 0, result.output
    assert "| lora" in result.output
    written = json.loads((tmp_path / "result.json").read_text())
    (point,) = written["results"]["points"]
    assert point["tokens_per_step"] == 24
    assert len(point["seconds"]) == 2
    result = CliRunner().invoke(app, ["bench", "train", "--model", folder, "--methods", "dora"])
    assert result.exit_code == 2
