"""Offloading hooks and adapters on a CPU: what they put in a module's place runs, and the numbers stay."""

import pytest
import torch
from torch import nn

from conftest import assert_close_to_largest
from tiny_models import randomize, tiny_model, tiny_vision_config
from transformers_fastvlm import FastViTHDModel, FastVLMForConditionalGeneration
from transformers_fastvlm.cpu_kernels import _is_as_built, use_cpu_kernels

PIXELS = torch.rand(2, 3, 128, 192, generator=torch.Generator().manual_seed(0))
# The first that a convolution or linear layer has in its name tells what it is for.
PLACES = ["stem.", "token_mixer.", "depthwise.", ".fc", "squeeze_", "downsampling.", "position_", "final_"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def features():
    with torch.no_grad():
        return tiny_model().model.vision_tower(PIXELS).last_hidden_state


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@torch.no_grad()
def test_weights_on_disk_where_memory_is_short(folder, features, tmp_path, share):
    pytest.importorskip("accelerate.utils", reason="`device_map` needs accelerate (the `train` extra)")
    size = sum(parameter.nbytes for parameter in tiny_model().parameters())
    model = FastVLMForConditionalGeneration.from_pretrained(
        folder, device_map="auto", max_memory={"cpu": int(share * size)}, offload_folder=tmp_path
    )
    assert "disk" in model.hf_device_map.values()
    assert_close_to_largest(model.model.vision_tower(PIXELS).last_hidden_state, features, 1e-5)


@pytest.mark.parametrize("place", ["cpu", "disk"])
@pytest.mark.parametrize("reparameterized", [True, False])
@torch.no_grad()
def test_weights_that_come_when_they_are_needed(tmp_path, place, reparameterized):
    accelerate = pytest.importorskip(
        "accelerate.big_modeling", reason="offloading needs accelerate (the `train` extra)"
    )
    model = randomize(FastViTHDModel(tiny_vision_config(reparameterized=reparameterized))).eval()
    expected = model(PIXELS).last_hidden_state
    if place == "cpu":
        accelerate.cpu_offload(model, execution_device="cpu")
    else:
        accelerate.disk_offload(model, tmp_path, execution_device="cpu")
    assert model.final_conv.squeeze_excite.reduce.weight.is_meta
    assert_close_to_largest(model(PIXELS).last_hidden_state, expected, 1e-5)


@pytest.mark.parametrize("reparameterized", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_lora(place, reparameterized):
    """PEFT takes convolutions whose groups divide the rank."""
    peft = pytest.importorskip("peft", reason="adapters need PEFT (the `train` extra)")
    encoder = randomize(FastViTHDModel(tiny_vision_config(reparameterized=reparameterized))).eval()
    layers = [name for name, layer in encoder.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    targets = [name for name in layers if next(each for each in PLACES if each in name) == place]
    config = peft.LoraConfig(r=64, target_modules=targets)
    model = peft.get_peft_model(encoder, config)
    generator = torch.Generator().manual_seed(0)
    adapted = set()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.02, generator=generator)
            adapted.add(name)
    assert len(adapted) == 2 * len(targets) > 0
    with torch.no_grad():
        features = model(pixel_values=PIXELS).last_hidden_state
        with use_cpu_kernels(False):
            expected = model(pixel_values=PIXELS).last_hidden_state
        with model.disable_adapter():
            unadapted = model(pixel_values=PIXELS).last_hidden_state
    assert not torch.allclose(expected, unadapted)
    assert_close_to_largest(features, expected, 1e-5)
    gradients = []
    for enabled in (True, False):
        with use_cpu_kernels(enabled):
            model.zero_grad()
            model(pixel_values=PIXELS).last_hidden_state.square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters() if name in adapted})
    for name, gradient in gradients[0].items():
        assert_close_to_largest(gradient, gradients[1][name], 1e-4)
    encoder = model.unload()
    with torch.no_grad():
        assert all(map(_is_as_built, encoder.children()))
        assert_close_to_largest(encoder(PIXELS).last_hidden_state, unadapted, 1e-5)
