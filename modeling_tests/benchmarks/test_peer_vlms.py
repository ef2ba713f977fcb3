"""Models of others are what they are called, and the paper's ratios what it says."""

import pytest
import torch

from paper_latencies import paper_ratios
from peer_vlms import VLM_PEERS
from transformers_fastvlm.benchmark.configurations import TtftBenchmarkConfig


@pytest.mark.parametrize(("name", "tower_millions"), [("upstream", 125), ("llava-onevision", 400), ("llava-1.5", 304)])
def test_peers_are_what_they_are_called(name, tower_millions):
    pytest.importorskip("timm", reason="upstream's tower needs timm")
    with torch.device("meta"):
        model = VLM_PEERS[name].build(TtftBenchmarkConfig(decoder="0.5B", dtype="float32"))
    count = sum(parameter.numel() for parameter in model.model.vision_tower.parameters())
    assert count / 1e6 == pytest.approx(tower_millions, rel=0.05)
    decoder = sum(parameter.numel() for parameter in model.model.language_model.parameters())
    assert decoder == pytest.approx(494e6, rel=0.01)


def test_the_papers_headline():
    ratios = paper_ratios("0.5B")
    assert ratios == {"llava-onevision": pytest.approx(85, abs=0.5)}
