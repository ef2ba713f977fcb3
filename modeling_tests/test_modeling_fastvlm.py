"""The whole model: against upstream, and against itself wherever two ways must give the same answer."""

import threading
from functools import partial

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForImageTextToText,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    TextIteratorStreamer,
)

from conftest import assert_close_to_largest
from tiny_models import (
    IMAGE_TOKEN_ID,
    TINY_TEXT,
    TOKENS_PER_IMAGE,
    randomize,
    tiny_config,
    tiny_model,
    tiny_vision_config,
)
from transformers_fastvlm import FastVLMConfig, FastVLMForConditionalGeneration, FastVLMModel

IMAGE = [IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE
# Two images, none, one: in one batch.
PROMPTS = [[5, 6, *IMAGE, 7, 8, *IMAGE, 3], [10, 11, 12], [9, *IMAGE, 4]]
IMAGES_PER_PROMPT = [2, 0, 1]
GREEDY = {"max_new_tokens": 7, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


@pytest.fixture(scope="module")
def model() -> FastVLMForConditionalGeneration:
    return tiny_model()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))


def pad(prompts: list[list[int]], side: str) -> dict[str, torch.Tensor]:
    longest = max(map(len, prompts))
    rows = {"input_ids": [], "attention_mask": []}
    for prompt in prompts:
        padding, ones = [0] * (longest - len(prompt)), [1] * len(prompt)
        rows["input_ids"].append(padding + prompt if side == "left" else prompt + padding)
        rows["attention_mask"].append(padding + ones if side == "left" else ones + padding)
    return {name: torch.tensor(values) for name, values in rows.items()}


@pytest.fixture(scope="module")
def batch(pixels) -> dict[str, torch.Tensor]:
    return pad(PROMPTS, "left") | {"pixel_values": pixels}


def inputs_of(row: int, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The inputs of one prompt of the batch, alone."""
    start = sum(IMAGES_PER_PROMPT[:row])
    inputs = {"input_ids": torch.tensor([PROMPTS[row]])}
    if IMAGES_PER_PROMPT[row]:
        inputs["pixel_values"] = pixels[start : start + IMAGES_PER_PROMPT[row]]
    return inputs


def new_tokens(model, inputs, **arguments) -> list[list[int]]:
    length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    return model.generate(**inputs, **{**GREEDY, **arguments})[:, length:].tolist()


@pytest.fixture(scope="module")
def answers(model, batch) -> list[list[int]]:
    answers = new_tokens(model, batch)
    assert len({tuple(answer) for answer in answers}) == 3
    return answers


@torch.no_grad()
def test_images_matter_each_in_its_place(model, batch, pixels):
    logits = model(**batch).logits
    for changed in range(3):
        other = pixels.clone()
        other[changed] = 1 - other[changed]
        differs = (model(**{**batch, "pixel_values": other}).logits != logits).flatten(1).any(1).tolist()
        assert differs == [changed < 2, False, changed == 2]


@pytest.mark.parametrize("row", [0, 1, 2])
def test_alone_as_in_a_batch(model, answers, pixels, row):
    assert new_tokens(model, inputs_of(row, pixels)) == [answers[row]]


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_leaves_logits_alone(model, pixels, side):
    inputs = pad(PROMPTS, side) | {"pixel_values": pixels}
    if side == "left":  # as `generate` numbers them
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    logits = model(**inputs).logits
    for row in range(3):
        expected = model(**inputs_of(row, pixels)).logits[0]
        assert_close_to_largest(logits[row][inputs["attention_mask"][row].bool()], expected, 1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"use_cache": False},
        {"cache_implementation": "static", "disable_compile": True},
        {"prefill_chunk_size": 3},
        {"prefill_chunk_size": 5},
        {"prefill_chunk_size": 64},
        {"prefill_chunk_size": 4, "cache_implementation": "static", "disable_compile": True},
    ],
    ids=["no cache", "static cache", "chunks of 3", "chunks of 5", "one chunk", "chunks, static cache"],
)
def test_the_same_answer_every_way(model, batch, answers, arguments):
    assert new_tokens(model, batch, **arguments) == answers


def test_features_encoded_ahead(model, batch, answers):
    text = {name: value for name, value in batch.items() if name != "pixel_values"}
    encoded = model.get_image_features(batch["pixel_values"])
    assert encoded.pooler_output.shape == (3, TOKENS_PER_IMAGE, 32)
    for _ in range(2):  # nothing of the first use is left behind
        assert new_tokens(model, text, mm_encoder_outputs={"image": encoded}) == answers
        new_tokens(model, text, mm_encoder_outputs={"image": encoded}, num_beams=2)


def test_embeddings_in_place_of_ids(model, batch, answers):
    embeddings = model.get_input_embeddings()(batch["input_ids"])
    inputs = {"inputs_embeds": embeddings, "attention_mask": batch["attention_mask"]}
    assert new_tokens(model, inputs, pixel_values=batch["pixel_values"]) == answers
    ready = model.model.insert_image_features(
        batch["input_ids"], embeddings, model.get_image_features(batch["pixel_values"]).pooler_output
    )
    assert new_tokens(model, {**inputs, "inputs_embeds": ready}) == answers


def test_beams_keep_each_prompts_images_together(model, batch, pixels):
    together = new_tokens(model, batch, num_beams=3, num_return_sequences=2)
    alone = [new_tokens(model, inputs_of(row, pixels), num_beams=3, num_return_sequences=2) for row in range(3)]
    assert together == [beam for beams in alone for beam in beams]


def test_sampling_returns_several_sequences(model, batch):
    torch.manual_seed(0)
    samples = new_tokens(model, batch, do_sample=True, num_return_sequences=4)
    assert len(samples) == 12
    assert len({tuple(sample) for sample in samples}) > 6


def test_image_is_encoded_once_per_generation(model, batch):
    calls = []
    handle = model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    for arguments in ({}, {"use_cache": False}, {"num_beams": 2}, {"prefill_chunk_size": 3}):
        calls.clear()
        new_tokens(model, batch, **arguments)
        assert len(calls) == 1, arguments
    handle.remove()


def test_assisted_decoding_gives_the_same_answer(model, pixels, answers):
    assistant = tiny_model(seed=1)
    for row in (0, 2):
        assert new_tokens(model, inputs_of(row, pixels), assistant_model=assistant) == [answers[row]]


@pytest.mark.parametrize("second_turn", [[7, *IMAGE, 8], [7, 8]], ids=["another image", "text"])
@pytest.mark.parametrize("all_images", [True, False])
def test_conversation_goes_on_from_a_cache(model, pixels, second_turn, all_images):
    first = model.generate(**inputs_of(2, pixels), **GREEDY, return_dict_in_generate=True)
    has_image = IMAGE_TOKEN_ID in second_turn
    images = torch.cat([pixels[2:], pixels[:1]] if has_image else [pixels[2:]])
    ids = torch.cat([first.sequences, torch.tensor([second_turn])], 1)
    expected = new_tokens(model, {"input_ids": ids, "pixel_values": images})
    arguments = {"past_key_values": first.past_key_values}
    if all_images:
        arguments["pixel_values"] = images
    elif has_image:
        arguments["pixel_values"] = images[1:]
    assert IMAGE_TOKEN_ID not in first.sequences[0, len(PROMPTS[2]) :]
    assert new_tokens(model, {"input_ids": ids}, **arguments) == expected


def test_attention_can_be_changed_after_loading(batch):
    model = tiny_model()
    model.set_attn_implementation("eager")
    blocks = model.model.vision_tower.stages[3].blocks
    with torch.no_grad():
        encoded = model.get_image_features(batch["pixel_values"], output_attentions=True)
    assert len(encoded.attentions) == 2
    assert blocks[0].token_mixer.config._attn_implementation == "eager"


def test_streaming_gives_the_same_tokens(model, pixels, answers):
    class Tokens:
        def decode(self, ids, **_):
            return "".join(f"{int(token)} " for token in ids)

    streamer = TextIteratorStreamer(Tokens(), skip_prompt=True)
    arguments = {**inputs_of(0, pixels), **GREEDY, "streamer": streamer}
    thread = threading.Thread(target=model.generate, kwargs=arguments)
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert [int(token) for token in text.split()] == answers[0]


@torch.no_grad()
def test_logits_to_keep(model, batch):
    logits = model(**batch).logits
    assert_close_to_largest(model(**batch, logits_to_keep=1).logits, logits[:, -1:], 1e-5)
    assert_close_to_largest(model(**batch, logits_to_keep=torch.tensor([2, 4])).logits, logits[:, [2, 4]], 1e-5)


@torch.no_grad()
def test_tiles_are_crops_like_any_other(model, pixels):
    """Overview and tiles of one image: placeholders for all of them, features in order."""
    prompt = torch.tensor([[5, *IMAGE * 3, 6]])
    features = model.get_image_features(pixels).pooler_output
    embeddings = model.get_input_embeddings()(prompt)
    embeddings[0, 1:13] = features.flatten(0, 1)
    expected = model.model.language_model(inputs_embeds=embeddings).last_hidden_state
    actual = model.model(input_ids=prompt, pixel_values=pixels).last_hidden_state
    assert_close_to_largest(actual, expected, 1e-6)


def test_loss_is_the_mean_over_labelled_tokens(model, batch):
    labels = batch["input_ids"].masked_fill(batch["input_ids"] == IMAGE_TOKEN_ID, -100)
    labels[batch["attention_mask"] == 0] = -100
    outputs = model(**batch, labels=labels)
    scores = outputs.logits[:, :-1].log_softmax(-1)
    targets = labels[:, 1:]
    chosen = scores.gather(2, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    expected = -chosen[targets != -100].mean()
    torch.testing.assert_close(outputs.loss, expected)


def test_training_reaches_every_weight(batch):
    model = tiny_model(vision={"reparameterized": False}).train()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    model(**batch, labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        if name == "model.vision_tower.projection":
            assert not parameter.requires_grad  # an unused parameter that asks for gradients breaks DDP
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_gradient_checkpointing_gives_the_same_gradients(batch):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**batch, labels=batch["input_ids"], use_cache=False).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_eager_and_sdpa_each_on_its_own(batch):
    logits = []
    for implementation in ("eager", "sdpa", {"vision_config": "eager", "text_config": "sdpa"}):
        config = tiny_config()
        config._attn_implementation = implementation
        model = randomize(FastVLMForConditionalGeneration(config).eval())
        logits.append(model(**batch).logits)
    assert config.vision_config._attn_implementation == "eager"
    assert config.text_config._attn_implementation == "sdpa"
    attended = batch["attention_mask"].bool()
    for other in logits[1:]:
        assert_close_to_largest(other[attended], logits[0][attended], 1e-5)


@pytest.mark.parametrize(
    ("decoder", "values"),
    [
        ("llama", {"num_key_value_heads": 2}),
        ("gemma3_text", {"num_key_value_heads": 2, "head_dim": 8}),
        ("gpt2", {}),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    ],
)
def test_any_decoder(decoder, values, pixels, tmp_path):
    common = {"vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    common |= {"num_attention_heads": 4, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    if decoder == "gpt2":
        common = {"vocab_size": 120, "n_embd": 32, "n_layer": 2, "n_head": 4, "eos_token_id": 1, "bos_token_id": None}
    text_config = CONFIG_MAPPING[decoder](**(common | values))
    config = FastVLMConfig(vision_config=tiny_vision_config(), text_config=text_config, image_token_id=IMAGE_TOKEN_ID)
    torch.manual_seed(0)
    model = FastVLMForConditionalGeneration(config).eval()
    inputs = inputs_of(0, pixels)
    answer = new_tokens(model, inputs)
    assert new_tokens(model, inputs, use_cache=False) == answer
    model.save_pretrained(tmp_path)
    loaded = FastVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert new_tokens(loaded, inputs) == answer
    tied = loaded.lm_head.weight is loaded.get_input_embeddings().weight
    assert tied == text_config.tie_word_embeddings


def test_resized_embeddings(batch):
    model = tiny_model()
    with torch.no_grad():
        expected = model(**batch).logits
        model.resize_token_embeddings(130, mean_resizing=False)
        logits = model(**batch).logits
    assert model.config.text_config.vocab_size == 130
    assert_close_to_largest(logits[..., :120], expected, 1e-6)


def test_tensor_parallel_plan_comes_from_the_decoder(model):
    plan = model.tp_plan
    assert plan["model.language_model.layers.*.self_attn.q_proj"].startswith("colwise")
    assert plan["lm_head"] == "colwise_gather_output"


# The oracle: transformers' own FastVLM on timm, with the same weights.


def upstream_pair(vision: dict, text: dict, layout: dict):
    pytest.importorskip("timm", reason="transformers' own FastVLM needs timm; the `dev` extra installs it")
    upstream_config = FastVlmConfig(
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "global_pool": "avg",
            "hidden_size": 3072,
            "model_args": {"inference_mode": True, **layout},
        },
        text_config={"model_type": "qwen2", **text},
        image_token_id=IMAGE_TOKEN_ID,
    )
    if layout:
        upstream_config.vision_config.hidden_size = 2 * layout["embed_dims"][-1]
    upstream = FastVlmForConditionalGeneration(upstream_config).eval()
    randomize(upstream)
    config = FastVLMConfig(
        vision_config={"projection_dim": None, **vision}, text_config=text, image_token_id=IMAGE_TOKEN_ID
    )
    return upstream, FastVLMForConditionalGeneration(config).eval()


def load_upstream_weights(upstream, ours, tmp_path):
    """Through files, as users do: upstream saves, ours loads."""
    upstream.save_pretrained(tmp_path)
    return FastVLMForConditionalGeneration.from_pretrained(tmp_path, config=ours.config, dtype=torch.float32)


TINY_LAYOUT = {"layers": [1, 1, 2, 1, 1], "embed_dims": [8, 16, 32, 32, 64]}


@pytest.mark.parametrize("full_size", [False, True], ids=["tiny", "full-size encoder"])
def test_equals_upstream_in_outputs_and_gradients(full_size, batch, tmp_path):
    layout = {} if full_size else TINY_LAYOUT
    vision = {} if full_size else {"depths": TINY_LAYOUT["layers"], "hidden_sizes": TINY_LAYOUT["embed_dims"]}
    upstream, ours = upstream_pair(vision, TINY_TEXT | {"tie_word_embeddings": False}, layout)
    ours = load_upstream_weights(upstream, ours, tmp_path)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    expected, actual = upstream(**batch, labels=labels), ours(**batch, labels=labels)
    assert_close_to_largest(actual.logits, expected.logits, 1e-4)
    assert_close_to_largest(actual.loss, expected.loss, 1e-4)
    expected.loss.backward()
    actual.loss.backward()
    theirs = dict(upstream.named_parameters())
    mine = dict(ours.named_parameters())
    for their_name, our_name in [
        ("model.vision_tower.timm_model.stem.0.reparam_conv.weight", "model.vision_tower.stem.0.conv.weight"),
        (
            "model.vision_tower.timm_model.stages.4.blocks.0.token_mixer.qkv.weight",
            "model.vision_tower.stages.4.blocks.0.token_mixer.qkv.weight",
        ),
        ("model.multi_modal_projector.linear_1.weight",) * 2,
        ("model.language_model.embed_tokens.weight",) * 2,
        ("lm_head.weight",) * 2,
    ]:
        assert_close_to_largest(mine[our_name].grad, theirs[their_name].grad, 1e-3)


@pytest.mark.slow
@torch.no_grad()
def test_equals_upstream_with_the_0_5b_decoder(tmp_path):
    text = {**FastVLMConfig().text_config.to_dict(), "tie_word_embeddings": False}
    upstream, ours = upstream_pair({}, text, {})
    ours = load_upstream_weights(upstream, ours, tmp_path)
    ids = torch.tensor([[5, *[IMAGE_TOKEN_ID] * 256, 8, 9]])
    pixels = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    expected = upstream(input_ids=ids, pixel_values=pixels).logits
    assert_close_to_largest(ours(input_ids=ids, pixel_values=pixels).logits, expected, 1e-4)


# Bad input.


def test_image_count_must_match_placeholders(model, batch, pixels):
    text = {name: value for name, value in batch.items() if name != "pixel_values"}
    for call in (model, model.generate):
        with pytest.raises(
            ValueError, match=r"12 placeholder tokens, but the images give 8 visual tokens \(2 crops of 4"
        ):
            call(**text, pixel_values=pixels[:2])
    for call in (model.generate, partial(model, labels=batch["input_ids"])):
        with pytest.raises(ValueError, match="12 placeholder tokens, but no image was given"):
            call(**text)
    with pytest.raises(ValueError, match="0 placeholder tokens, but the images give 4"):
        model(input_ids=torch.tensor([[3, 4]]), pixel_values=pixels[:1])


def test_a_placeholder_that_the_decoder_makes_up_is_a_word_like_any_other(pixels):
    model = tiny_model()
    with torch.no_grad():  # every answer is the placeholder
        model.lm_head.weight.zero_()
        model.lm_head.weight[IMAGE_TOKEN_ID] = model.model.language_model.norm.weight * 0 + 1
    decoder = model.model.language_model
    decoder.norm.register_forward_hook(lambda module, args, output: output.abs())
    for use_cache in (True, False):
        assert new_tokens(model, inputs_of(0, pixels), use_cache=use_cache) == [[IMAGE_TOKEN_ID] * 7]


def test_prompt_longer_than_the_context(model):
    message = "The prompt has 257 tokens, visual ones included, but the decoder's context is 256"
    with pytest.raises(ValueError, match=message):
        model.generate(input_ids=torch.full((1, 257), 5))
    with pytest.raises(ValueError, match=message):
        model(input_ids=torch.full((1, 257), 5), labels=torch.full((1, 257), 5))


def test_ids_or_embeddings(model, batch):
    with pytest.raises(ValueError, match="either `input_ids` or `inputs_embeds`"):
        model()
    with pytest.raises(ValueError, match="either `pixel_values` or `mm_encoder_outputs`"):
        model(**batch, mm_encoder_outputs={"image": model.get_image_features(batch["pixel_values"])})


def test_float16_keeps_the_encoder_in_float32(tmp_path, batch):
    tiny_model().save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float16)
    assert {p.dtype for p in model.model.vision_tower.parameters()} == {torch.float32}
    assert model.lm_head.weight.dtype == torch.float16
    with torch.no_grad():
        logits = model(**batch).logits
        expected = tiny_model()(**batch).logits
    assert logits.dtype == torch.float16
    assert_close_to_largest(logits.float(), expected, 0.02)


def test_float16_survives_a_round_trip(tmp_path):
    tiny_model().save_pretrained(tmp_path / "first")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "first", dtype=torch.float16)
    assert model.dtype == torch.float16
    model.save_pretrained(tmp_path / "second")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "second")
    assert {name: p.dtype for name, p in again.named_parameters()} == {
        name: p.dtype for name, p in model.named_parameters()
    }


def test_base_model_loads_from_a_whole_checkpoint(model, batch, tmp_path):
    model.save_pretrained(tmp_path)
    base = FastVLMModel.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model.model(**batch).last_hidden_state
        assert torch.equal(base(**batch).last_hidden_state, expected)
