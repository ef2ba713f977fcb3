"""The encoder against the original's outputs, against timm, and against itself where two ways must agree."""

import copy

import pytest
import torch
from transformers import AutoBackbone, AutoModel

from conftest import assert_close_to_largest, seeded_image
from tiny_models import randomize, tiny_config, tiny_vision_config
from transformers_fastvlm import FastViTHDBackbone, FastViTHDConfig, FastViTHDModel, FastVLMModel
from transformers_fastvlm.checkpoint_formats import encoder_renamings
from transformers_fastvlm.configuration_fastvlm import FASTVITHD_FAMILY
from transformers_fastvlm.cpu_kernels import use_cpu_kernels

pytestmark = pytest.mark.usefixtures("nan_in_uninitialized_memory")


@pytest.fixture(autouse=True, params=[True, False], ids=["kernels", "plain"])
def with_and_without_kernels(request):
    with use_cpu_kernels(request.param):
        yield


ALL_TENSORS = ("last_hidden_state", "pooler_output")


def tiny_encoder(seed: int = 0, **changes) -> FastViTHDModel:
    return randomize(FastViTHDModel(tiny_vision_config(**changes)).eval(), seed)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_inference_form_gives_the_originals_outputs(original_folder, golden_outputs):
    model = FastViTHDModel.from_pretrained(original_folder, dtype=torch.float32)
    assert model.config.reparameterized
    outputs = model(seeded_image(256, 256))
    assert_close_to_largest(outputs.last_hidden_state, golden_outputs["encoder_256"])
    assert_close_to_largest(outputs.pooler_output, golden_outputs["pooled_256"])


@torch.no_grad()
def test_training_form_gives_the_originals_outputs_before_and_after(original_training_form_folder, golden_outputs):
    model = FastViTHDModel.from_pretrained(original_training_form_folder, dtype=torch.float32)
    assert not model.config.reparameterized
    for _ in ("training form", "inference form"):
        outputs = model(seeded_image(256, 256))
        assert_close_to_largest(outputs.last_hidden_state, golden_outputs["encoder_train_256"])
        assert_close_to_largest(outputs.pooler_output, golden_outputs["pooled_train_256"])
        model.reparameterize()
    assert model.config.reparameterized


@torch.no_grad()
def test_reparameterize_on_load_equals_in_place(original_training_form_folder):
    fused = FastViTHDModel.from_pretrained(original_training_form_folder, reparameterize=True)
    in_place = FastViTHDModel.from_pretrained(original_training_form_folder).reparameterize()
    assert fused.config.reparameterized
    assert fused.state_dict().keys() == in_place.state_dict().keys()
    for name, tensor in fused.state_dict().items():
        assert torch.equal(tensor, in_place.state_dict()[name]), name


def test_125_million_parameters():
    with torch.device("meta"):
        model = FastViTHDModel(FastViTHDConfig())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(125.1e6, rel=0.005)


def timm_pair(size: str, inference_mode: bool, **changes):
    """A timm encoder with random weights, and ours with the same weights under our names."""
    timm = pytest.importorskip("timm", reason="timm is a test oracle; the `dev` extra installs it")
    config = FastViTHDConfig(**{**FASTVITHD_FAMILY[size], "reparameterized": inference_mode, **changes})
    theirs = timm.create_model(
        f"fastvit_{size}",
        num_classes=0,
        global_pool="",
        inference_mode=inference_mode,
        layers=config.depths,
        embed_dims=config.hidden_sizes,
    ).eval()
    randomize(theirs)
    ours = FastViTHDModel(config).eval()
    own_names = {}
    for name, tensor in theirs.state_dict().items():
        for renaming in encoder_renamings():
            name, _ = renaming.rename_source_key(name)
        own_names[name] = tensor
    missing, unexpected = ours.load_state_dict(own_names, strict=False)
    assert not unexpected
    assert missing == ["projection"]
    return theirs, ours


# Depthwise layers of the family multiply widths, so each divides the next.
SMALL = {"depths": [1, 2, 2, 1, 1], "hidden_sizes": [32, 32, 64, 64, 128]}
SMALL_FOUR_STAGES = {"depths": [1, 2, 2, 1], "hidden_sizes": [32, 32, 64, 128]}


def assert_equal_to_timm(theirs, ours, pixels: torch.Tensor, tolerance: float) -> None:
    """Outputs, and gradients of a random projection of them, of tensors in every kind of block."""
    expected, actual = theirs.forward_features(pixels), ours(pixels).last_hidden_state
    assert_close_to_largest(actual, expected, tolerance)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=expected.dtype)
    (expected * weights).sum().backward()
    (actual * weights).sum().backward()
    stem = ("stem.0.reparam_conv", "stem.0.conv")
    if not ours.config.reparameterized:
        stem = ("stem.0.conv_kxk.0.conv", "stem.0.conv_branch.conv")
    expected_gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for their_name, our_name in [
        (f"{stem[0]}.weight", f"{stem[1]}.weight"),
        ("stages.1.blocks.0.mlp.fc1.weight", "stages.1.blocks.0.feed_forward.fc1.weight"),
        ("stages.3.blocks.0.token_mixer.qkv.weight", "stages.3.blocks.0.token_mixer.qkv.weight"),
        ("stages.3.blocks.0.layer_scale_1.gamma", "stages.3.blocks.0.layer_scale_1"),
        ("final_conv.se.fc1.weight", "final_conv.squeeze_excite.reduce.weight"),
    ]:
        assert_close_to_largest(gradients[our_name], expected_gradients[their_name], tolerance)


@pytest.mark.parametrize("mode", ["inference", "training", "training step"])
@pytest.mark.parametrize("size", ["mci0", "mci1", "mci2", "mci3", "mci4"])
def test_small_sizes_equal_timm_in_float64(size, mode):
    theirs, ours = timm_pair(size, mode == "inference", **(SMALL if size in ("mci3", "mci4") else SMALL_FOUR_STAGES))
    theirs.double().train(mode == "training step")
    ours.double().train(mode == "training step")
    assert_equal_to_timm(theirs, ours, image(2, 3, 128, 192).double(), 1e-9)
    assert_close_to_largest(
        ours.stages[0].blocks[0].feed_forward.depthwise.norm.running_mean,
        theirs.stages[0].blocks[0].mlp.conv.bn.running_mean,
        1e-9,
    )


@pytest.mark.parametrize("size", ["mci0", "mci3"])
def test_full_sizes_equal_timm(size):
    theirs, ours = timm_pair(size, True)
    assert_equal_to_timm(theirs, ours, image(1, 3, 64, 128), 1e-4)


@pytest.mark.parametrize("changes", [{}, {"attention_norm": "batch_norm", "squeeze_excite_stages": [2, 3]}])
@torch.no_grad()
def test_reparameterization_keeps_outputs(changes):
    model = tiny_encoder(reparameterized=False, stem_scale_branch=True, **changes)
    pixels = image(2, 3, 128, 128)
    before = model(pixels, output_hidden_states=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    after = model.reparameterize()(pixels, output_hidden_states=True)
    for name in ALL_TENSORS:
        assert_close_to_largest(after[name], before[name], 1e-5)
    for stage_after, stage_before in zip(after.hidden_states, before.hidden_states):
        assert_close_to_largest(stage_after, stage_before, 1e-5)
    assert sum(parameter.numel() for parameter in model.parameters()) < parameters
    assert model.state_dict().keys() == tiny_encoder(stem_scale_branch=True, **changes).state_dict().keys()


def test_inference_form_never_moves_batch_norm_statistics():
    for model in (tiny_encoder(), tiny_encoder(reparameterized=False).reparameterize()):
        before = copy.deepcopy(dict(model.named_buffers()))
        expected = model(image(2, 3, 128, 128)).last_hidden_state
        model.train()
        actual = model(image(2, 3, 128, 128)).last_hidden_state
        actual.sum().backward()
        assert torch.equal(actual, expected)
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, before[name]), name


def test_training_form_moves_batch_norm_statistics():
    model = tiny_encoder(reparameterized=False).train()
    before = model.stem[0].conv_branch.norm.running_mean.clone()
    model(image(2, 3, 128, 128))
    assert not torch.equal(model.stem[0].conv_branch.norm.running_mean, before)


@torch.no_grad()
def test_hidden_states_and_attentions():
    config = tiny_vision_config()
    config._attn_implementation = "eager"
    model = randomize(FastViTHDModel(config).eval())
    outputs = model(image(2, 3, 128, 192), output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [
        (2, 8, 32, 48),  # the stem's
        (2, 8, 32, 48),
        (2, 16, 16, 24),
        (2, 32, 8, 12),
        (2, 32, 4, 6),
        (2, 64, 2, 3),
    ]
    assert outputs.last_hidden_state.shape == (2, 128, 2, 3)
    assert outputs.pooler_output.shape == (2, 24)
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 1, 24, 24), (2, 2, 6, 6)]
    torch.testing.assert_close(outputs.attentions[0].sum(-1), torch.ones(2, 1, 24))
    assert model(image(1, 3, 64, 64)).hidden_states is None
    assert FastViTHDModel(tiny_vision_config(projection_dim=None)).eval()(image(1, 3, 64, 64)).pooler_output is None


@torch.no_grad()
def test_pooler_output_is_the_projected_mean():
    outputs = (model := tiny_encoder())(image(2, 3, 128, 128))
    expected = outputs.last_hidden_state.mean((2, 3)) @ model.projection
    torch.testing.assert_close(outputs.pooler_output, expected)


@torch.no_grad()
def test_eager_and_sdpa_attention_agree():
    outputs = []
    for implementation in ("eager", "sdpa"):
        config = tiny_vision_config()
        config._attn_implementation = implementation
        outputs.append(randomize(FastViTHDModel(config).eval())(image(2, 3, 192, 128)))
    assert_close_to_largest(outputs[0].last_hidden_state, outputs[1].last_hidden_state, 1e-5)


@torch.no_grad()
def test_backbone_gives_the_chosen_stages(tmp_path):
    model = tiny_encoder(out_features=["stem", "stage2", "stage5"])
    model.save_pretrained(tmp_path)
    backbone = FastViTHDBackbone.from_pretrained(tmp_path)
    outputs = backbone(image(1, 3, 128, 128), output_hidden_states=True)
    states = model(image(1, 3, 128, 128), output_hidden_states=True).hidden_states
    assert backbone.channels == [8, 16, 64]
    assert len(outputs.hidden_states) == 6
    assert len(outputs.feature_maps) == 3
    assert len(states) == 6  # the stem's first, as a backbone's
    for ours, theirs in zip(outputs.hidden_states, states):
        assert torch.equal(ours, theirs)
    assert states[0].shape[1:] == (8, 32, 32)
    assert torch.equal(outputs.feature_maps[1], states[2])
    assert torch.equal(outputs.feature_maps[2], states[5])
    assert isinstance(AutoBackbone.from_config(model.config), FastViTHDBackbone)
    assert isinstance(AutoModel.from_config(model.config), FastViTHDModel)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("reparameterized", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(reentrant, reparameterized):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_encoder(reparameterized=reparameterized).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model(image(2, 3, 128, 128)).last_hidden_state.square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        if name != "projection":  # not part of this loss
            torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_drop_path_drops_whole_residuals_while_training():
    model = tiny_encoder(drop_path_rate=0.9)
    rates = [block.drop_path.rate for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.18, 0.36, 0.54, 0.72, 0.9])
    pixels = image(4, 3, 64, 64)
    assert torch.equal(model(pixels).last_hidden_state, model(pixels).last_hidden_state)
    drop_path = model.stages[4].blocks[0].drop_path.train()
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(2000, 3, 2, 2))
    assert dropped.unique().tolist() == pytest.approx([0.0, 10.0])
    assert torch.equal(dropped.amax((1, 2, 3)), dropped.amin((1, 2, 3)))
    assert dropped.mean() == pytest.approx(1.0, abs=0.2)


@torch.no_grad()
def test_any_size_divisible_by_the_stride():
    model = tiny_encoder()
    assert model(image(1, 3, 320, 64)).last_hidden_state.shape == (1, 128, 5, 1)
    for size, message in [
        ((1, 3, 100, 128), "100x128.*divisible by 64"),
        ((1, 1, 64, 64), r"\(images, 3"),
        ((3, 64, 64), r"\(images, 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(image(*size))


def test_one_image_gives_the_same_alone_and_in_a_batch():
    model = tiny_encoder()
    pixels = image(3, 3, 128, 128)
    batch = model(pixels).last_hidden_state
    for index in range(3):
        assert_close_to_largest(model(pixels[index : index + 1]).last_hidden_state[0], batch[index], 1e-5)


@torch.no_grad()
def test_float16_overflow_is_an_error():
    model = tiny_encoder().half()
    assert model(image(1, 3, 64, 64)).last_hidden_state.dtype == torch.float16
    model.final_conv.squeeze_excite = torch.nn.Identity()
    model.final_conv.conv.weight.fill_(6e4)
    model.final_conv.conv.bias.fill_(6e4)
    with pytest.raises(FloatingPointError, match="bfloat16"):
        model(image(1, 3, 64, 64))


@torch.no_grad()
def test_bfloat16_stays_close():
    model = tiny_encoder()
    expected = model(image(1, 3, 128, 128)).last_hidden_state
    actual = model.bfloat16()(image(1, 3, 128, 128)).last_hidden_state
    assert actual.dtype == torch.bfloat16
    assert_close_to_largest(actual.float(), expected, 0.05)


def test_new_residual_branches_are_small_and_gates_half_open():
    torch.manual_seed(0)
    for vision in (FastViTHDModel(tiny_vision_config()), FastVLMModel(tiny_config()).vision_tower):
        for stage in (0, 4):
            feed_forward = vision.stages[stage].blocks[0].feed_forward
            assert feed_forward.fc1.weight.std().item() == pytest.approx(0.02, rel=0.2)
            assert feed_forward.fc2.weight.std().item() == pytest.approx(0.02, rel=0.2)
        mixer = vision.stages[0].blocks[0].token_mixer.conv.weight
        assert (mixer[:, 0, 1, 1] - 1).abs().max() < 0.1
        assert vision.final_conv.squeeze_excite.expand.weight.std().item() == pytest.approx(0.002, rel=0.2)


def test_new_weights_keep_signal_through_the_depth():
    torch.manual_seed(0)
    for reparameterized in (True, False):
        model = FastViTHDModel(FastViTHDConfig(reparameterized=reparameterized, depths=[2, 6, 12, 4, 2])).eval()
        with torch.no_grad():
            features = model(image(2, 3, 128, 128)).last_hidden_state
        assert 1e-3 < features.std() < 1e3
        assert not torch.allclose(features[0], features[1], rtol=1e-2)
