"""Features of images on disk: each is encoded once, and anew when something has changed that they depend on."""

import os
import time

import pytest
import torch

from chat_rows import make_processor, picture, png, turns
from tiny_models import tiny_model
from transformers_fastvlm.training import FastVLMDataCollator, ImageFeatures, RowFormat
from transformers_fastvlm.training.row_images import ImageAccess

pytest.importorskip("accelerate.utils", reason="processes share the encoding through accelerate (the `train` extra)")
ROWS = [
    {"messages": turns("What is it?", "A cat."), "images": [picture()]},
    {"messages": turns("Colour?", "Red."), "images": [{"bytes": png(picture(60, 90)), "path": None}]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}], "images": []},
    {"messages": turns("Again?", "A cat."), "images": [picture()]},
]


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture
def model(processor):
    model = tiny_model(vocab_size=len(processor.tokenizer), max_position_embeddings=512)
    model.config.image_token_id = processor.image_token_id
    return model


@pytest.fixture
def calls(model):
    """How many crops the encoder has seen."""
    seen = []
    model.model.vision_tower.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    return seen


def features_in(folder, model, processor, **options) -> ImageFeatures:
    return ImageFeatures(folder, model.model.vision_tower, processor, **options)


def fill(features, model, rows=ROWS) -> int:
    return features.fill(rows, model.model.vision_tower, RowFormat())


def test_a_loss_with_features_is_that_with_pixels_and_nothing_is_encoded(model, processor, calls, tmp_path):
    features = features_in(tmp_path, model, processor)
    assert fill(features, model) == 2  # the same picture comes twice
    batch = FastVLMDataCollator(processor, features=features)(ROWS)
    assert "pixel_values" not in batch
    del calls[:]
    loss = model(**batch).loss
    assert calls == []
    expected = model(**FastVLMDataCollator(processor)(ROWS)).loss
    assert calls == [3]
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)


def test_gradients_of_the_projector_are_those_with_pixels(model, processor, tmp_path):
    features = features_in(tmp_path, model, processor)
    fill(features, model)
    weight = model.model.multi_modal_projector.linear_1.weight
    found = []
    for collator in (FastVLMDataCollator(processor, features=features), FastVLMDataCollator(processor)):
        weight.grad = None
        model(**collator(ROWS)).loss.backward()
        found.append(weight.grad.clone())
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-3)


def test_later_runs_encode_nothing(model, processor, calls, tmp_path):
    fill(features_in(tmp_path, model, processor), model)
    del calls[:]
    assert fill(features_in(tmp_path, model, processor), model) == 0
    assert calls == []


@pytest.mark.parametrize("change", ["weights", "resolution", "padding", "dtype"])
def test_what_features_depend_on_has_them_made_anew(change, model, processor, tmp_path):
    fill(features_in(tmp_path, model, processor), model)
    if change == "weights":
        with torch.no_grad():
            next(model.model.vision_tower.parameters()).add_(1e-3)
    elif change == "dtype":
        model.model.vision_tower.to(torch.bfloat16)
    else:
        options = {"size": 64} if change == "resolution" else {"image_mean": [0.1, 0.1, 0.1], "do_normalize": True}
        processor = (
            make_processor(**options)
            if change == "padding"
            else type(processor)(type(processor.image_processor)(size=64), processor.tokenizer)
        )
    assert fill(features_in(tmp_path, model, processor), model) == 2


def test_a_changed_file_is_another_image(model, processor, tmp_path):
    path = tmp_path / "it.png"
    row = {"messages": turns("What is it?", "A cat."), "images": [str(path)], "source_root": str(tmp_path)}
    features = features_in(tmp_path / "features", model, processor)
    path.write_bytes(png(picture()))
    assert fill(features, model, [row]) == 1
    before = features.read(str(path), str(tmp_path), ImageAccess())
    path.write_bytes(png(picture(40, 40)))
    with pytest.raises(FileNotFoundError, match="are not in"):
        features.read(str(path), str(tmp_path), ImageAccess())
    assert fill(features, model, [row]) == 1
    assert not torch.equal(features.read(str(path), str(tmp_path), ImageAccess()), before)


def test_what_a_kill_left_half_written_is_written_again(model, processor, tmp_path):
    features = features_in(tmp_path, model, processor)
    fill(features, model)
    (one, other) = sorted(features.folder.glob("*.safetensors"))
    partial = features.folder / ".partial-old"
    partial.write_bytes(other.read_bytes()[:100])
    os.utime(partial, (time.time() - 7200,) * 2)
    other.unlink()
    assert fill(features, model) == 1
    assert not partial.exists()
    assert one.exists()


def test_the_folder_stays_within_its_limit_and_keeps_what_is_used(model, processor, tmp_path):
    size = 2 * model.config.vision_config.hidden_size * 2 * 2 * 4 / 1e9 * 1.6  # two images, and some more
    others = [{"messages": turns("What?", "This."), "images": [picture(30 + side, 20)]} for side in (1, 2)]
    fill(features_in(tmp_path, model, processor, gigabytes=size), model, others)
    features = features_in(tmp_path, model, processor, gigabytes=size)
    fill(features, model)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= size * 1e9
    FastVLMDataCollator(processor, features=features)(ROWS)  # all of them are there
    with pytest.raises(OSError, match="features of 2 images take .* Allow more with --cache_gigabytes"):
        fill(features_in(tmp_path / "small", model, processor, gigabytes=1e-9), model)
    assert not list((tmp_path / "small").rglob("*.safetensors"))
