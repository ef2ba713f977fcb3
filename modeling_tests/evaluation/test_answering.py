"""Prompts, generation options, batches, log-likelihoods and embeddings, on a tiny random model."""

import pytest
import torch
from PIL import Image

from chat_rows import picture
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.evaluation import answering
from transformers_fastvlm.evaluation.answering import (
    ModelOptions,
    cut_at,
    generate_answers,
    generation_options,
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


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ({}, {"max_new_tokens": 1024, "do_sample": False}),
        ({"until": ["ASSISTANT:"], "image_aspect_ratio": "original"}, {"max_new_tokens": 1024, "do_sample": False}),
        ({"max_new_tokens": 16, "temperature": 0, "top_p": 1.0}, {"max_new_tokens": 16, "do_sample": False}),
        ({"temperature": 0, "do_sample": True}, {"max_new_tokens": 1024, "do_sample": False}),
        ({"temperature": 0.7}, {"max_new_tokens": 1024, "do_sample": True, "temperature": 0.7}),
        ({"do_sample": True, "top_k": 5}, {"max_new_tokens": 1024, "do_sample": True, "top_k": 5}),
        ({"num_beams": 3, "top_p": None}, {"max_new_tokens": 1024, "do_sample": False, "num_beams": 3}),
    ],
)
def test_decoding_is_greedy_unless_the_task_asks_for_sampling(task, options):
    assert generation_options(task) == options


def test_answers_end_where_the_task_says():
    assert cut_at("A\n\nB", ["\n\n", "###"]) == "A"
    assert cut_at("A ### B", ("\n\n", "###")) == "A "
    assert cut_at("A B", "B") == "A "
    assert cut_at("A B", ["", "C"]) == "A B"


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


def test_options_reach_the_model(folder):
    model, processor = load(
        ModelOptions(str(folder), dtype="bfloat16", resolution=192, static_cache=True, compiled=True)
    )
    assert model.dtype == torch.bfloat16
    assert processor.image_processor.get_resolution() == 192
    assert model.generation_config.cache_implementation == "static"
    assert model.model.vision_tower._compiled_call_impl is not None


@pytest.mark.parametrize("scheme", ["nf4", "bnb-int8", "int8"])
def test_quantized_weights(folder, scheme):
    for library in ("bitsandbytes", "torchao", "accelerate"):
        pytest.importorskip(library, reason=f"quantization needs {library} (the `quantization` extra)")
    model, processor = load(ModelOptions(str(folder), quantization=scheme))
    kinds = {type(module.weight).__name__ for module in model.modules() if hasattr(module, "weight")}
    assert any("Params4bit" in kind or "Int8" in kind for kind in kinds), kinds
    assert len(generate_answers(model, processor, conversations()[:1], **GREEDY)) == 1


def test_an_adapter(folder, tmp_path):
    peft = pytest.importorskip("peft", reason="adapters need PEFT (the `evaluation` extra)")
    model, processor = load(ModelOptions(str(folder), dtype="float32"))
    plain = generate_answers(model, processor, conversations(), **GREEDY)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path)
    model, processor = load(ModelOptions(str(folder), adapter=str(tmp_path), dtype="float32"))
    assert generate_answers(model, processor, conversations(), **GREEDY) != plain
    assert image_embeddings(model, processor, [picture()]).shape[0] == 1


def test_an_unknown_dtype_is_named():
    with pytest.raises(ValueError, match="Unknown dtype 'int4'"):
        ModelOptions("x", dtype="int4")
