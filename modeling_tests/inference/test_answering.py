"""Prompts, batches, log-likelihoods and embeddings, on a tiny random model."""

import pytest
import torch
from PIL import Image

from chat_rows import picture
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.inference import (
    ModelOptions,
    answering,
    generate_answers,
    image_embeddings,
    load,
    nearest_image,
    score_continuations,
    to_messages,
)

GREEDY = {"max_new_tokens": 8, "do_sample": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def loaded(folder):
    return load(ModelOptions(str(folder), dtype="float32"))


def content_of(text: str, count: int) -> list[str]:
    (message,) = to_messages(text, [picture()] * count)
    return [part.get("text", "IMAGE") for part in message["content"]]


@pytest.mark.parametrize(
    ("text", "images", "content"),
    [
        ("What?", 0, ["What?"]),
        ("What?", 1, ["IMAGE", "What?"]),
        ("What?", 2, ["IMAGE", "IMAGE", "What?"]),
        ("<image>\nWhat?", 1, ["IMAGE", "What?"]),
        ("Is <image> as <image>?", 2, ["Is ", "IMAGE", " as ", "IMAGE", "?"]),
        ("Which <image> is <image>?", 1, ["IMAGE", "Which image is image?"]),
    ],
)
def test_images_stand_where_the_text_has_them(text, images, content, loaded):
    assert content_of(text, images) == content
    prompt = loaded[1].apply_chat_template(to_messages(text, [picture()] * images), add_generation_prompt=True)
    assert prompt.count("<image>") == images


def conversations() -> list:
    return [
        to_messages("What is it?", [picture()]),
        to_messages("Which of the two is the larger one, and how do you know?", [picture(60, 90), picture(30, 30)]),
        to_messages("Hello", []),
    ]


def test_a_batch_gets_the_answers_of_its_prompts_one_by_one(loaded):
    single = [generate_answers(*loaded, [conversation], **GREEDY)[0] for conversation in conversations()]
    assert generate_answers(*loaded, conversations(), **GREEDY) == single
    assert len(set(single)) > 1


def test_scores_are_the_mean_loss_of_the_answers_tokens(loaded):
    model, processor = loaded
    texts = ["cat", "a longer answer", "dog"]
    found = score_continuations(model, processor, conversations(), texts)
    for conversation, text, (loss, _) in zip(conversations(), texts, found):
        images = [part["image"] for part in conversation[0]["content"] if part["type"] == "image"]
        prompt = processor.apply_chat_template(conversation, add_generation_prompt=True)
        start = processor(images=images or None, text=prompt, return_tensors="pt")["input_ids"].shape[1]
        whole = processor(images=images or None, text=f"{prompt}{text}<|im_end|>", return_tensors="pt")
        labels = whole["input_ids"].clone()
        labels[:, :start] = -100
        with torch.no_grad():
            assert loss == pytest.approx(float(model(**whole, labels=labels).loss), abs=1e-5)


def test_the_greedy_answer_is_known_as_such(loaded):
    model, processor = loaded
    # Without the end of the turn, what it generates is not all that is scored.
    answers = generate_answers(model, processor, conversations(), **GREEDY)
    assert [is_greedy for _, is_greedy in score_continuations(model, processor, conversations(), answers)] == [
        False
    ] * 3
    eos = processor.tokenizer.eos_token_id
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            model.lm_head,
            "forward",
            lambda hidden: torch.nn.functional.one_hot(
                torch.full(hidden.shape[:-1], eos), model.config.text_config.vocab_size
            ).float(),
        )
        assert score_continuations(model, processor, conversations()[:1], [""])[0][1] is True
        assert score_continuations(model, processor, conversations()[:1], ["no"])[0][1] is False


@pytest.mark.parametrize("projection_dim", [None, 24])
def test_embeddings_are_the_clip_heads_or_the_mean_of_the_map(tmp_path, projection_dim):
    write_tiny_checkpoint(tmp_path, {"projection_dim": projection_dim})
    model, processor = load(ModelOptions(str(tmp_path)))
    images = [picture(), picture(128, 128), Image.new("RGB", (50, 50), "red")]
    embeddings = image_embeddings(model, processor, images)
    assert embeddings.shape == (3, projection_dim or model.config.vision_config.hidden_size)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))
    with torch.no_grad():
        encoded = model.model.vision_tower(processor.image_processor(images[2], return_tensors="pt").pixel_values)
    expected = encoded.pooler_output if projection_dim else encoded.last_hidden_state.mean((2, 3))
    torch.testing.assert_close(embeddings[2], (expected / expected.norm())[0])


def test_the_nearest_image_is_that_of_the_largest_cosine(monkeypatch):
    embeddings = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]]), dim=-1)
    monkeypatch.setattr(answering, "image_embeddings", lambda model, processor, images: embeddings[: len(images)])
    assert nearest_image(None, None, [picture()] * 4) == 1
    assert nearest_image(None, None, [picture()] * 2) == 0
