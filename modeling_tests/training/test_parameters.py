"""Freezing and parameter groups."""

import pytest
import torch

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, tiny_model
from transformers_fastvlm.training import PARTS, parameter_groups, train_only

BATCH = {
    "input_ids": torch.tensor([[5, *[IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE, 7, 8]]),
    "labels": torch.tensor([[-100, *[-100] * TOKENS_PER_IMAGE, 7, 8]]),
    "pixel_values": torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)),
}


def train_a_little(model) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-2))
    model.train()
    for _ in range(2):
        model(**BATCH).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("reparameterized", [True, False])
@pytest.mark.parametrize("part", PARTS)
def test_only_the_named_part_changes_buffers_included(part, reparameterized):
    model = tiny_model(vision={"reparameterized": reparameterized})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train_only(model, [part])
    train_a_little(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    marks = {"encoder": "vision_tower", "projector": "multi_modal_projector", "decoder": "language_model"}
    assert changed
    assert all(marks[part] in name or (part == "decoder" and name.startswith("lm_head")) for name in changed)
    assert any("running_mean" in name for name in changed) == (part == "encoder" and not reparameterized)


def test_a_frozen_encoder_can_be_thawed():
    model = tiny_model(vision={"reparameterized": False})
    train_only(model, ["decoder"])
    train_only(model, PARTS)
    means = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.endswith("running_mean")}
    train_a_little(model)
    assert all(not torch.equal(model.state_dict()[name], mean) for name, mean in means.items())
    assert not model.model.vision_tower.projection.requires_grad


@pytest.mark.parametrize(
    ("parts", "message"), [(["vision"], r"Unknown parts \['vision'\]"), ([], "Nothing would train")]
)
def test_parts_are_checked(parts, message):
    with pytest.raises(ValueError, match=message):
        train_only(tiny_model(), parts)


def test_groups_have_their_parts_learning_rates_and_matrices_decay():
    model = tiny_model()
    train_only(model, PARTS)
    groups = parameter_groups(model, 1e-4, weight_decay=0.1, encoder=1e-6, projector=1e-3)
    found = {}
    for group in groups:
        for parameter in group["params"]:
            found[id(parameter)] = group["lr"], group["weight_decay"]
    named = dict(model.named_parameters())
    expected = {
        "model.vision_tower.stem.0.conv.weight": (1e-6, 0.1),
        "model.vision_tower.stem.0.conv.bias": (1e-6, 0.0),
        "model.vision_tower.stages.0.blocks.0.layer_scale": (1e-6, 0.0),
        "model.multi_modal_projector.linear_1.weight": (1e-3, 0.1),
        "model.language_model.layers.0.input_layernorm.weight": (1e-4, 0.0),
        "lm_head.weight": (1e-4, 0.1),
    }
    assert {name: found[id(named[name])] for name in expected} == expected
    assert len(found) == sum(parameter.requires_grad for parameter in named.values())


def test_groups_are_checked():
    with pytest.raises(ValueError, match=r"Unknown parts \['tower'\]"):
        parameter_groups(tiny_model(), 1e-4, tower=1e-5)
    with pytest.raises(ValueError, match="No parameter is trainable"):
        parameter_groups(tiny_model().requires_grad_(False), 1e-4)
