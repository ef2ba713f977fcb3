"""The script that compares training steps: what it measures, and that both train the same."""

import pytest
import torch
import typer
from typer.testing import CliRunner

import compare_training
import peer_training
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.benchmark import training
from transformers_fastvlm.benchmark.configurations import TrainingBenchmarkConfig

pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")


@pytest.fixture
def folder(tmp_path):
    return write_tiny_checkpoint(tmp_path / "checkpoint", hidden_size=64, intermediate_size=128)


def test_a_peer_is_timed_beside_ours(folder, monkeypatch):
    ours = training.METHOD_SUBJECTS["lora"]
    peer = training.TrainingSubject("upstream", ours.build, ours.batch)
    monkeypatch.setitem(compare_training.TRAINING_PEERS, "upstream", peer)
    monkeypatch.setattr(training, "in_fresh_process", lambda measure, *given: measure(*given))
    app = typer.Typer()
    app.command()(compare_training.main)
    arguments = ["--model", str(folder), "--methods", "lora,lora-cached", "--steps", "1", "--text-tokens", "20"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments, catch_exceptions=False)
    assert "× upstream" in done.output
    rows = [line.split("|")[1].strip() for line in done.output.splitlines() if line.startswith("| ")]
    assert rows == ["method", "lora", "lora-cached", "upstream"]


def test_upstream_trains_the_same_layers_on_the_same_batch(monkeypatch):
    pytest.importorskip("timm", reason="transformers' own FastVLM runs timm's encoder")
    pytest.importorskip("torchvision", reason="timm needs torchvision")
    config = TrainingBenchmarkConfig("model", text_tokens=4, device="meta")
    built = peer_training.upstream_config
    small = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64}

    def with_a_small_decoder(size):
        upstream = built(size)
        for name, value in small.items():
            setattr(upstream.text_config, name, value)
        upstream.text_config.layer_types = upstream.text_config.layer_types[:1]
        return upstream

    monkeypatch.setattr(peer_training, "upstream_config", with_a_small_decoder)
    with torch.device("meta"):
        model = peer_training.upstream_with_lora(config)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 7  # two matrices for each of a layer's seven
    assert all("language_model" in name and "lora_" in name for name in trained)
    batch = peer_training.upstream_batch(TrainingBenchmarkConfig("model", text_tokens=4), model)
    assert (batch["input_ids"] == model.config.image_token_index).sum() == 256
