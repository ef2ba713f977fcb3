"""Inputs that would be answered wrongly, or fail inside torch, are refused in the user's terms."""

import pytest
import torch

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, tiny_model

IMAGE = [IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE
IDS = torch.tensor([[2, 3, *IMAGE, 4, 5]])
LONG = IDS.repeat(2, 1)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(params=["generate", "forward"])
def ask(model, request):
    """A call of the model, by `generate` or by `forward` as a training would."""
    if request.param == "generate":
        return lambda **inputs: model.generate(**inputs, max_new_tokens=2)
    return lambda **inputs: model(**inputs, labels=inputs.get("input_ids"))


def pixels(crops: int = 1) -> torch.Tensor:
    return torch.rand(crops, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([[2, 120]]), "id 120, but the decoder's vocabulary is 0..119"),
        (torch.tensor([[2, -1]]), "id -1"),
        (torch.tensor([[2, -200]]), "original code's mark"),
        (torch.tensor([[2.0, 3.0]]), "must be integers"),
        (torch.tensor([[True, False]]), "must be integers"),
        (torch.tensor([2, 3]), r"\(batch, positions\)"),
        (torch.zeros(1, 0, dtype=torch.long), r"\(batch, positions\)"),
        (torch.zeros(0, 3, dtype=torch.long), r"\(batch, positions\)"),
        ([[2, 3]], "must be a tensor, not a list"),
    ],
)
def test_ids(ask, ids, message):
    with pytest.raises(ValueError, match=message):
        ask(input_ids=ids)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(1, 9), "same shape"),
        (torch.ones(1, 7, dtype=torch.long), "same shape"),
        (torch.ones(2, 8, dtype=torch.long), "same shape"),
        (torch.full((1, 8), 0.5), "must be 1"),
        (torch.full((1, 8), 2), "must be 1"),
    ],
)
def test_masks(ask, mask, message):
    with pytest.raises(ValueError, match=message):
        ask(input_ids=IDS, attention_mask=mask, pixel_values=pixels())


def test_a_mask_that_hides_images(model):
    mask = torch.ones_like(IDS)
    mask[0, :4] = 0
    with pytest.raises(ValueError, match=r"hides placeholder tokens.*rows \[0\]"):
        model.generate(input_ids=IDS, attention_mask=mask, pixel_values=pixels(), max_new_tokens=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.rand(0, 3, 128, 128), "at least one image"),
        (torch.rand(1, 3, 0, 0), "at least one image"),
        (torch.rand(3, 128, 128), r"\(images, 3, height, width\)"),
        (torch.rand(1, 4, 128, 128), r"\(images, 3, height, width\)"),
        (torch.rand(1, 3, 100, 128), "divisible by 64"),
        (torch.zeros(1, 3, 128, 128, dtype=torch.uint8), "floating-point"),
        ([[1.0]], "must be a tensor"),
    ],
)
def test_pixels(ask, values, message):
    with pytest.raises(ValueError, match=message):
        ask(input_ids=IDS, pixel_values=values)


def test_no_pixels_given_by_name(model):
    with pytest.raises(ValueError, match="no image was given"):
        model.generate(input_ids=IDS, pixel_values=None, max_new_tokens=2)


def test_placeholders_of_one_row_in_another(ask):
    ids = torch.tensor([[2, *IMAGE[:3], 3, 4, 5], [6, *IMAGE, IMAGE_TOKEN_ID, 7]])
    with pytest.raises(ValueError, match=r"\[3, 5\] placeholder tokens by row"):
        ask(input_ids=ids, pixel_values=pixels(2))


@pytest.mark.parametrize("embeds", [torch.rand(1, 5, 31), torch.rand(5, 32), torch.rand(1, 0, 32), [[1.0]]])
def test_embeddings(model, embeds):
    for call in (model, lambda **inputs: model.generate(**inputs, max_new_tokens=2)):
        with pytest.raises(ValueError, match="`inputs_embeds` must be"):
            call(inputs_embeds=embeds)


def test_logits_to_keep(model):
    with pytest.raises(ValueError, match="logits_to_keep"):
        model(input_ids=IDS[:, :2], logits_to_keep=None)


def test_what_the_caller_gave_stays_as_it_was(model):
    encoded: dict = {}
    for _ in range(2):
        model.generate(input_ids=IDS, pixel_values=pixels(), mm_encoder_outputs=encoded, max_new_tokens=2)
    assert encoded == {}


def test_good_inputs_of_every_kind_pass(model):
    expected = model.generate(input_ids=IDS, pixel_values=pixels(), max_new_tokens=2)
    for mask in (torch.ones(1, 8), torch.ones(1, 8, dtype=torch.bool), torch.ones(1, 8, dtype=torch.int32)):
        given = model.generate(
            input_ids=IDS.int(), attention_mask=mask, pixel_values=pixels().double(), max_new_tokens=2
        )
        assert given.tolist() == expected.tolist()
