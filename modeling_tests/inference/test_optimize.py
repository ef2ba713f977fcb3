"""`optimize_for_inference`: the same answers as without it, and what it refuses."""

from pathlib import Path

import pytest
import torch
from transformers import TextStreamer

from conftest import assert_close_to_largest
from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, tiny_model
from transformers_fastvlm import extras
from transformers_fastvlm.inference import MissingLibraryError, optimize, optimize_for_inference
from transformers_fastvlm.inference.linear_layers import int8_is_fast

needs_vnni = pytest.mark.skipif(not int8_is_fast(), reason="int8 is for CPUs with VNNI instructions")


@pytest.fixture
def cache(tmp_path) -> Path:
    pytest.importorskip("openvino", reason="OpenVINO comes with the `inference` extra")
    return tmp_path / "cache"


def images(count: int, height: int = 128, width: int = 128) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def prompt() -> dict[str, torch.Tensor]:
    """Two prompts of different lengths with an image each."""
    pictures = [IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE
    input_ids = torch.tensor([[0, 0, 5, *pictures, 7, 8], [3, 4, 5, *pictures, 6, 9]])
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long(), "pixel_values": images(2)}


def answers(model, **kwargs) -> torch.Tensor:
    return model.generate(**prompt(), max_new_tokens=8, do_sample=False, **kwargs)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 4e-2)])
def test_openvino_gives_the_features_at_every_resolution_and_batch(cache, dtype, tolerance):
    tower = tiny_model().model.vision_tower.to(dtype)
    sizes = [(1, 128, 128), (3, 128, 192), (1, 320, 64)]
    expected = [tower(images(*size)) for size in sizes]
    optimize_for_inference(tower, encoder="openvino", cache_dir=cache)
    for size, output in zip(sizes, expected):
        again = tower(images(*size))
        assert again.last_hidden_state.dtype == dtype
        assert_close_to_largest(again.last_hidden_state.float(), output.last_hidden_state.float(), tolerance)
        assert_close_to_largest(again.pooler_output.float(), output.pooler_output.float(), tolerance)


def test_answers_stay_the_same_also_streamed_and_as_a_batch(cache, capsys):
    model = tiny_model()
    expected = answers(model)
    done = optimize_for_inference(model, cache_dir=cache)
    assert (done.encoder, done.int8, done.was_cached) == ("openvino", (), False)
    assert torch.equal(answers(model), expected)

    class Words:
        def decode(self, tokens, **kwargs):
            return " ".join(map(str, torch.as_tensor(tokens).flatten().tolist())) + "\n"

    row = {name: tensor[1:] for name, tensor in prompt().items()}
    output = model.generate(**row, max_new_tokens=8, do_sample=False, streamer=TextStreamer(Words(), skip_prompt=True))
    assert torch.equal(output, expected[1:])
    assert capsys.readouterr().out.split() == [str(int(token)) for token in expected[1, -8:]]


def test_the_next_process_finds_the_converted_encoder(cache, monkeypatch):
    optimize_for_inference(tiny_model(), encoder="openvino", cache_dir=cache)
    assert sorted(path.suffix for path in cache.iterdir()) == [".bin", ".json", ".xml"]
    monkeypatch.setattr("transformers_fastvlm.inference.openvino_encoder.convert", None)
    assert optimize_for_inference(tiny_model(), encoder="openvino", cache_dir=cache).was_cached
    with pytest.raises(TypeError):  # other weights are another encoder
        optimize_for_inference(tiny_model(seed=1), encoder="openvino", cache_dir=cache)


def test_what_else_is_asked_of_the_encoder_runs_as_before(cache):
    tower = tiny_model().model.vision_tower
    optimize_for_inference(tower, encoder="openvino", cache_dir=cache)
    used = []
    runtime, tower.runtime = tower.runtime, lambda pixels: used.append(1) or runtime(pixels)
    with torch.no_grad():
        assert len(tower(images(1), output_hidden_states=True).hidden_states) == 6
        assert not used
        tower(images(1))
        assert used
        with pytest.raises(ValueError, match="100x128.*divisible by 64"):
            tower(images(1, 100))
    assert tower(images(1)).last_hidden_state.requires_grad
    assert len(used) == 1


@torch.no_grad()
def test_an_encoder_that_changed_is_an_error(cache):
    tower = tiny_model().model.vision_tower
    optimize_for_inference(tower, encoder="openvino", cache_dir=cache)
    tower.final_conv.conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="changed since `optimize_for_inference`"):
        tower(images(1))
    optimize_for_inference(tower, encoder="openvino", cache_dir=cache)
    tower(images(1))


def test_multi_branch_encoders_are_reparameterized(cache):
    model = tiny_model(vision={"reparameterized": False})
    expected = answers(model)
    optimize_for_inference(model, cache_dir=cache)
    assert model.config.vision_config.reparameterized
    assert torch.equal(answers(model), expected)


def test_adapters_are_refused_until_merged(cache):
    peft = pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(tiny_model(), config).eval()
    expected = answers(model)
    with pytest.raises(ValueError, match="merge_and_unload"):
        optimize_for_inference(model, cache_dir=cache)
    merged = model.merge_and_unload()
    optimize_for_inference(merged, cache_dir=cache)
    assert torch.equal(answers(merged), expected)


@needs_vnni
@torch.no_grad()
def test_an_int8_encoder_is_near_its_float_one(cache):
    pytest.importorskip("nncf", reason="calibration needs NNCF (the `inference` extra)")
    tower = tiny_model(vision={"layer_scale_init_value": 0.1}).model.vision_tower
    pixels = images(8)
    expected = tower(pixels).last_hidden_state
    optimize_for_inference(tower, int8=["encoder"], calibration_pixels=pixels, cache_dir=cache)
    difference = (tower(pixels).last_hidden_state - expected).norm() / expected.norm()
    assert 0 < difference < 0.1


@needs_vnni
def test_int8_decoders_are_not_saved_in_part(tmp_path):
    model = tiny_model()
    optimize_for_inference(model, encoder="eager", int8=["decoder"])
    for part in (model, model.model, model.model.language_model):
        with pytest.raises(RuntimeError, match="cannot be saved. Save it before"):
            part.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@torch.no_grad()
def test_compiled_encoders_give_the_features():
    tower = tiny_model(vision={"depths": [1, 1, 1, 1, 1]}).model.vision_tower
    expected = tower(images(1)).last_hidden_state
    done = optimize_for_inference(tower, encoder="compile")
    assert done.encoder == "compile"
    assert_close_to_largest(tower(images(1)).last_hidden_state, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "tensorrt"}, "Unknown encoder 'tensorrt'; known are"),
        ({"int8": ["head"]}, r"Unknown parts \['head'\]"),
        ({"int8": ["encoder"], "encoder": "eager"}, "runs in OpenVINO only"),
        ({"int8": ["encoder"], "encoder": "openvino"}, "needs `calibration_pixels`"),
        ({"int8": ["encoder"], "encoder": "openvino", "calibration_pixels": images(1, 100)}, "divisible by 64"),
        (
            {"int8": ["encoder"], "encoder": "openvino", "calibration_pixels": images(1) / 0},
            "NaN or infinite",
        ),
    ],
)
@needs_vnni
def test_options_that_do_not_fit_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        optimize_for_inference(tiny_model(), **options)
    with pytest.raises(ValueError, match="an encoder alone"):
        optimize_for_inference(tiny_model().model.vision_tower, encoder="eager", int8=["decoder"])


def test_int8_is_refused_where_it_would_be_slower(monkeypatch):
    monkeypatch.setattr(optimize, "int8_is_fast", lambda: False)
    with pytest.raises(ValueError, match="VNNI"):
        optimize_for_inference(tiny_model(), encoder="eager", int8=["decoder"])


def test_a_missing_runtime_names_the_extra(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    assert optimize_for_inference(tiny_model()).encoder == "eager"
    with pytest.raises(
        MissingLibraryError,
        match=r"openvino, which is not installed: .*transformers-fastvlm\[inference\]'",
    ):
        optimize_for_inference(tiny_model(), encoder="openvino")
