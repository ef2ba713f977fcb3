"""Encoders of others are what they are called."""

from types import SimpleNamespace

import pytest
import torch

from peer_encoders import ENCODER_PEERS, build_upstream
from tiny_models import tiny_vision_config
from transformers_fastvlm.benchmark.encoder_latency import measure_differences
from transformers_fastvlm.benchmark.synthetic import random_model, random_pixels


@torch.no_grad()
def test_upstream_is_transformers_own_tower_with_our_weights():
    pytest.importorskip("timm", reason="upstream's vision tower needs timm")
    ours = random_model(tiny_vision_config(hidden_sizes=[32, 32, 64, 64, 128]), torch.float32)
    upstream = build_upstream(ours)
    assert type(upstream).__name__ == "TimmWrapperModel"
    assert not ours.training
    assert not upstream.training
    images = random_pixels(2, 128, torch.float32, torch.device("cpu"))
    assert measure_differences({"ours": ours, "upstream": upstream}, images)["upstream"] < 1e-4


@pytest.mark.parametrize(
    ("name", "millions"), [("clip-vit-l", 304), ("siglip-so400m", 428), ("convnext-l", 196), ("mci2", 36)]
)
def test_towers_are_what_they_are_called_and_run_at_any_resolution(name, millions):
    device = torch.device("meta")
    with device:  # where weights are not drawn
        tower = ENCODER_PEERS[name].build(SimpleNamespace(dtype=torch.bfloat16, device=device))
    module = getattr(tower, "func", tower)
    assert sum(parameter.numel() for parameter in module.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)
    output = tower(pixel_values=torch.empty(1, 3, 256, 256, dtype=torch.bfloat16, device=device))
    assert output.last_hidden_state.shape[0] == 1
