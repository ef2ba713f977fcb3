"""Each kernel against the plain forward that it stands for, and everything that keeps one from being taken."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from conftest import assert_close_to_largest
from tiny_models import randomize, tiny_vision_config
from transformers_fastvlm import FastViTHDModel, cpu_kernels
from transformers_fastvlm.cpu_kernels import (
    KERNELS,
    cpu_attention,
    mark_as_built,
    suits_cpu_attention,
    use_cpu_kernels,
)
from transformers_fastvlm.layers_fastvithd import FastViTHDConvNorm, LargeKernelConv, MobileOneBlock
from transformers_fastvlm.modeling_fastvithd import (
    AttentionBlock,
    ConvFeedForward,
    FastViTHDAttention,
    FastViTHDStem,
    PointwiseLinear,
    RepMixerBlock,
)

pytestmark = pytest.mark.usefixtures("nan_in_uninitialized_memory")

ALL_TENSORS = ("last_hidden_state", "pooler_output")
WIDTH = 32
# One position, odd sides, and more positions than are worked on at once, of one and of several images.
MAPS = [(1, 1, 1), (2, 5, 3), (1, 47, 53), (3, 33, 31)]


def config_of(**changes):
    config = tiny_vision_config(**changes)
    config._attn_implementation = "sdpa"
    return config


# What makes a module of each class that has a kernel; the encoder's own is tested apart.
BUILD = {
    FastViTHDConvNorm: lambda config: FastViTHDConvNorm(
        config, in_channels=WIDTH, out_channels=WIDTH, kernel_size=7, padding=3, groups=WIDTH
    ),
    MobileOneBlock: lambda config: MobileOneBlock(config, WIDTH, WIDTH, 3, groups=WIDTH, squeeze_channels=4),
    LargeKernelConv: lambda config: LargeKernelConv(config, WIDTH, 2 * WIDTH, squeeze_channels=4),
    FastViTHDStem: FastViTHDStem,
    PointwiseLinear: lambda config: PointwiseLinear(WIDTH, 2 * WIDTH, 1),
    ConvFeedForward: lambda config: ConvFeedForward(config, WIDTH),
    FastViTHDAttention: lambda config: FastViTHDAttention(config, WIDTH),
    RepMixerBlock: lambda config: RepMixerBlock(config, WIDTH, drop_path_rate=0.1),
    AttentionBlock: lambda config: AttentionBlock(config, WIDTH, drop_path_rate=0.1),
}


def built(kind: type[nn.Module], **changes) -> nn.Module:
    module = randomize(BUILD[kind](config_of(**changes))).eval()
    mark_as_built(*module.modules())
    return module


def input_of(kind: type[nn.Module], batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if kind is FastViTHDAttention:
        return torch.randn(batch, height * width, WIDTH, generator=generator)
    if kind is FastViTHDStem:
        return torch.rand(batch, 3, 4 * height + 1, 4 * width - 1, generator=generator)
    return torch.randn(batch, WIDTH, height, width, generator=generator).to(memory_format=torch.channels_last)


def encoder(**changes) -> FastViTHDModel:
    return randomize(FastViTHDModel(config_of(**changes)).eval())


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def plain(module: nn.Module, *inputs, **named):
    with use_cpu_kernels(False):
        return module(*inputs, **named)


def first(output) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def layout(tensor: torch.Tensor) -> list[int]:
    return [stride for stride, size in zip(tensor.stride(), tensor.shape) if size > 1]


def test_every_kernel_is_tested():
    assert {*BUILD, FastViTHDModel} == set(KERNELS)
    for kind, fast in KERNELS.items():
        assert getattr(kind, fast.method).__wrapped__ is fast.plain


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"reparameterized": False}, {"hidden_act": "relu"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", BUILD, ids=lambda kind: kind.__name__)
def test_a_kernel_gives_what_the_plain_forward_gives(kind, dtype, changes):
    module = built(kind, **changes).to(dtype)
    exact = copy.deepcopy(module).double()
    for size in MAPS:
        given = input_of(kind, *size).to(dtype)
        before = given.clone()
        assert KERNELS[kind].suits(module, given) == (kind is not PointwiseLinear or dtype == torch.float32)
        output, expected = first(module(given)), first(plain(module, given))
        assert torch.equal(given, before)
        assert output.dtype == dtype
        assert layout(output) == layout(expected)
        truth = first(plain(exact, given.double()))
        error, plain_error = ((each - truth).norm() / truth.norm() for each in (output, expected))
        rounding = 1.25 * plain_error + torch.finfo(dtype).eps
        assert error <= {torch.float64: 1e-14, torch.float32: 1e-6}.get(dtype, rounding), size


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("reparameterized", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_of_a_whole_encoder_equal_plain_forwards(monkeypatch, dtype, reparameterized, batch):
    """Without gradients, large feature maps are gone through in parts, with batch norms folded on the way.

    So is the stem, in strips of the image.
    """
    model = encoder(reparameterized=reparameterized).to(dtype)
    pixels = image(batch, 3, 384, 320)
    given = pixels.clone()
    strips, forward = [], cpu_kernels._forward

    def noted(module, hidden_states):
        output = forward(module, hidden_states)
        if module is model.stem[2]:
            strips.append(output.shape[2])
        return output

    monkeypatch.setattr(cpu_kernels, "_forward", noted)
    plain = model(pixels, output_hidden_states=True)
    assert plain.last_hidden_state.requires_grad
    assert plain.hidden_states[0].shape[2] == 96
    assert not strips
    with torch.no_grad():
        saving = model(pixels, output_hidden_states=True)
    assert torch.equal(pixels, given)
    assert strips == [51, 46] * batch  # the second strip looks back at one row
    exact = model.double()(pixels.to(dtype).double(), output_hidden_states=True)
    maps = ([*output.hidden_states, output.last_hidden_state] for output in (saving, plain, exact))
    for ours, expected, truth in zip(*maps):
        assert ours.stride() == expected.stride()
        error, plain_error = ((each - truth).norm() / truth.norm() for each in (ours, expected))
        assert error < 1e-6 if dtype == torch.float32 else error < 1.25 * plain_error
        if dtype == torch.float32:
            assert_close_to_largest(ours, expected.detach(), 1e-5)


@torch.no_grad()
def test_large_images_are_encoded_one_by_one(monkeypatch):
    model = encoder()
    pixels = image(3, 3, 128, 192)
    expected = model(pixels)
    sizes, stage_outputs = [], model._stage_outputs
    monkeypatch.setattr(model, "_stage_outputs", lambda images: sizes.append(len(images)) or stage_outputs(images))
    monkeypatch.setattr(cpu_kernels, "PIXELS_AT_ONCE", 128 * 128)
    outputs = model(pixels)
    assert sizes == [1, 1, 1]
    for name in ALL_TENSORS:
        torch.testing.assert_close(getattr(outputs, name), getattr(expected, name))
    model(pixels, output_hidden_states=True)
    assert sizes[3:] == [3]
    with use_cpu_kernels(False):
        model(pixels)
    assert sizes[4:] == [3]


@torch.no_grad()
def test_the_switch(monkeypatch):
    block, given = built(ConvFeedForward), input_of(ConvFeedForward, 1, 5, 3)
    fast = KERNELS[ConvFeedForward]
    with use_cpu_kernels(False):
        assert not fast.suits(block, given)
        with use_cpu_kernels(True):
            assert fast.suits(block, given)
        assert not fast.suits(block, given)
    assert fast.suits(block, given)


@pytest.mark.parametrize(("value", "enabled"), [("0", False), ("off", False), (" No", False), ("1", True)])
def test_the_environment(value, enabled):
    assert cpu_kernels._allowed_by({"FASTVLM_CPU_KERNELS": value}) is enabled
    assert cpu_kernels._allowed_by({})


def test_a_process_that_starts_without_kernels():
    environment = os.environ | {"FASTVLM_CPU_KERNELS": "0"}
    code = "from transformers_fastvlm import cpu_kernels; print(cpu_kernels._enabled.get())"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "False"


HOOKS = ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"]


@torch.no_grad()
@pytest.mark.parametrize("inside", ["", "depthwise", "depthwise.norm", "activation", "fc2"])
@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_on_a_module_or_inside_it_ask_for_the_plain_forward(kind, inside):
    module, given = built(ConvFeedForward), input_of(ConvFeedForward, 1, 5, 3)
    handle = getattr(module.get_submodule(inside), f"register_{kind}")(lambda *_: None)
    assert not KERNELS[ConvFeedForward].suits(module, given)
    handle.remove()
    assert KERNELS[ConvFeedForward].suits(module, given)


def another_forward(module):
    module.fc1.forward = module.fc1.forward


def another_child(module):
    module.fc1 = nn.Conv2d(WIDTH, 4 * WIDTH, 1)


def another_class(module):
    module.fc1.__class__ = type("Adapted", (nn.Conv2d,), {})


def parametrization(module):
    nn.utils.parametrizations.weight_norm(module.fc1)


def weight_norm_of_old(module):
    nn.utils.weight_norm(module.fc1)


def pruning(module):
    prune.identity(module.fc1, "weight")


def flattened_weight(module):
    weight = module.fc1.weight.detach()
    del module.fc1.weight
    module.fc1.weight = weight


class SubclassOfTensor(torch.Tensor):
    pass


def subclass_of_tensor(module):
    module.fc1.weight = nn.Parameter(module.fc1.weight.detach().as_subclass(SubclassOfTensor))


def dtype_of_its_own(module):
    module.depthwise.norm.double()


def offloaded_weight(module):
    module.fc2.to("meta")


def batch_statistics(module):
    nn.BatchNorm2d.train(module.depthwise.norm)


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        another_forward,
        another_child,
        another_class,
        parametrization,
        weight_norm_of_old,
        pruning,
        flattened_weight,
        subclass_of_tensor,
        dtype_of_its_own,
        offloaded_weight,
        batch_statistics,
    ],
)
def test_what_a_module_was_not_built_as_asks_for_the_plain_forward(change):
    module, given = built(ConvFeedForward), input_of(ConvFeedForward, 1, 5, 3)
    assert KERNELS[ConvFeedForward].suits(module, given)
    change(module)
    assert not KERNELS[ConvFeedForward].suits(module, given)


@torch.no_grad()
def test_subclasses_go_without():
    class Other(ConvFeedForward):
        pass

    module, given = Other(config_of(), WIDTH), input_of(ConvFeedForward, 1, 5, 3)
    mark_as_built(*module.modules())
    assert not KERNELS[ConvFeedForward].suits(module, given)


def test_gradients_of_input_or_weights_ask_for_the_plain_forward():
    module, given = built(ConvFeedForward), input_of(ConvFeedForward, 1, 5, 3)
    suits = KERNELS[ConvFeedForward].suits
    assert not suits(module, given)  # its weights want some
    module.requires_grad_(False)
    assert suits(module, given)
    module.fc2.bias.requires_grad_()
    assert not suits(module, given)
    module.requires_grad_(False)
    given.requires_grad_()
    assert not suits(module, given)
    with torch.no_grad():
        assert suits(module, given)


def test_a_frozen_encoder_keeps_its_kernels_in_grad_mode_and_under_train():
    model = encoder().requires_grad_(False)
    pixels = image(1, 3, 128, 128)
    expected = plain(model, pixels).last_hidden_state
    taken = []
    for kind, fast in KERNELS.items():
        taken += [kind] * sum(type(module) is kind and fast.method == "forward" for module in model.modules())
    assert RepMixerBlock in taken
    for mode in (False, True):
        assert KERNELS[FastViTHDStem].suits(model.train(mode).stem, pixels)
        assert KERNELS[RepMixerBlock].suits(model.stages[0].blocks[0], torch.rand(1, 8, 32, 32))
        assert_close_to_largest(model(pixels).last_hidden_state, expected, 1e-5)
    pixels.requires_grad_()
    model(pixels).last_hidden_state.sum().backward()
    with use_cpu_kernels(False):
        given = pixels.detach().requires_grad_()
        model(given).last_hidden_state.sum().backward()
    assert torch.equal(pixels.grad, given.grad)


@torch.no_grad()
def test_onlookers_see_the_plain_forward():
    module, given = built(ConvFeedForward), input_of(ConvFeedForward, 1, 5, 3)
    expected = plain(module, given)
    suits, calls = KERNELS[ConvFeedForward].suits, []
    assert not suits(module, given.to("meta"))
    assert not suits(module, hidden_states=given)
    assert_close_to_largest(module(hidden_states=given), expected, 1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert not suits(module, given)
    handle = register_module_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(module(given), expected)
    handle.remove()
    assert len(calls) == 7  # of the module and of all inside it
    with FlopCounterMode(display=False) as counter, use_cpu_kernels(True):
        assert torch.equal(module(given), expected)
    assert counter.get_total_flops() == 2 * 15 * (49 * WIDTH + 2 * 4 * WIDTH * WIDTH)
    traced = torch.jit.trace(module, given)
    assert "mkldnn" not in str(traced.inlined_graph)
    assert_close_to_largest(traced(input_of(ConvFeedForward, 1, 47, 53)), module(input_of(ConvFeedForward, 1, 47, 53)))
    block = built(MobileOneBlock)
    assert torch.equal(torch.fx.symbolic_trace(block)(given), plain(block, given))
    assert_close_to_largest(torch.vmap(module)(given[None])[0], expected, 1e-5)
    _, tangent = torch.func.jvp(module, (given,), (given,))
    assert_close_to_largest(module(given + 1e-3 * given) - expected, 1e-3 * tangent, 0.01)


@torch.no_grad()
@pytest.mark.parametrize("reparameterized", [True, False])
def test_hooks_on_every_module_fire_and_keep_the_plain_forwards_values(reparameterized):
    model, pixels = encoder(reparameterized=reparameterized), image(2, 3, 256, 320)
    with use_cpu_kernels(False):
        expected = hooked_outputs(model, pixels, model.modules())
    outputs = hooked_outputs(model, pixels, model.modules())
    assert outputs.keys() == expected.keys()
    for name, tensors in outputs.items():
        assert len(tensors) == len(expected[name])
        assert all(map(torch.equal, tensors, expected[name])), name
    called = {name for name, module in model.named_modules() if not isinstance(module, nn.ModuleList)}
    assert outputs.keys() == called


@torch.no_grad()
@pytest.mark.parametrize("reparameterized", [True, False])
def test_a_hook_on_any_one_module_keeps_the_plain_forwards_values(reparameterized):
    """The modules around it compute as ever, and none writes to what the hook has got."""
    model, pixels = encoder(reparameterized=reparameterized), image(2, 3, 256, 320)
    with use_cpu_kernels(False):
        expected = hooked_outputs(model, pixels, model.modules())
    for name, module in model.named_modules():
        if name in expected:
            outputs = hooked_outputs(model, pixels, [module])
            assert outputs.keys() == {name} and len(outputs[name]) == len(expected[name])
            for tensor, plain_tensor in zip(outputs[name], expected[name]):
                assert_close_to_largest(tensor, plain_tensor, 1e-5)


def hooked_outputs(model, pixels, modules) -> dict[str, list[torch.Tensor]]:
    """By the names of modules, the tensors that hooks on them have got, as these are after the encoder is done."""
    names, outputs = {module: name for name, module in model.named_modules()}, {}

    def keep(module, inputs, output):
        values = output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else [output]
        seen = [*inputs, *(value for value in values if isinstance(value, torch.Tensor))]
        outputs.setdefault(names[module], []).extend(seen)

    handles = [module.register_forward_hook(keep) for module in modules]
    model(pixels)
    for handle in handles:
        handle.remove()
    return outputs


def tensors(batch, heads, key_heads, tokens, keys, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = [(batch, tokens, heads, 32), (batch, keys, key_heads, 32), (batch, keys, key_heads, 32)]
    return [torch.randn(shape, dtype=torch.float64).to(dtype).transpose(1, 2) for shape in shapes]


def expected(query, key, value, is_causal):
    group = query.shape[1] // key.shape[1]
    key, value = (tensor.double().repeat_interleave(group, 1) for tensor in (key, value))
    return scaled_dot_product_attention(query.double(), key, value, is_causal=is_causal, scale=0.2).transpose(1, 2)


@torch.no_grad()
@pytest.mark.parametrize("scores_at_once", [1, 3000, 2**22])  # single queries; a few of them or heads; everything
@pytest.mark.parametrize(
    ("shape", "is_causal"),
    [
        ((1, 6, 6, 64, 64), False),
        ((3, 6, 2, 33, 33), False),
        ((2, 6, 2, 1, 150), False),
        ((1, 14, 2, 300, 300), True),
        ((2, 4, 4, 129, 129), True),
    ],
)
def test_it_is_attention_whatever_the_blocks(monkeypatch, shape, is_causal, scores_at_once):
    monkeypatch.setattr(cpu_kernels, "_SCORES_AT_ONCE", scores_at_once)
    query, key, value = tensors(*shape)
    output = cpu_attention(query, key, value, 0.2, is_causal)
    assert output.is_contiguous()
    torch.testing.assert_close(output, expected(query, key, value, is_causal), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_it_rounds_no_worse_than_attention_written_out():
    query, key, value = tensors(2, 6, 6, 200, 200, torch.bfloat16)
    exact = expected(query, key, value, False)
    written_out = ((query @ key.transpose(-2, -1) * 0.2).softmax(-1) @ value).transpose(1, 2)
    error, its_error = ((output - exact).norm() for output in (cpu_attention(query, key, value, 0.2), written_out))
    assert error <= its_error
    assert error < 0.01 * exact.norm()


def test_it_is_for_bfloat16_on_cpus_without_gradients():
    query = torch.randn(1, 2, 3, 32, dtype=torch.bfloat16)
    assert suits_cpu_attention(query)
    assert not suits_cpu_attention(query.float())
    assert not suits_cpu_attention(query.to("meta"))
    query.requires_grad_()
    assert not suits_cpu_attention(query)
    with torch.no_grad():
        assert suits_cpu_attention(query)
