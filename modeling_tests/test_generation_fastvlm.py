"""What `generate` refuses, where it stops, and which stop tokens a loaded model has."""

import json
import re

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import GenerationConfig

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, tiny_model, write_tiny_checkpoint
from transformers_fastvlm import FastVLMForConditionalGeneration
from transformers_fastvlm.outputs_fastvlm import CACHE_NAME


@pytest.fixture
def model():
    return tiny_model(eos_token_id=None)


@pytest.mark.parametrize("with_embeddings", [False, True])
def test_padding_on_the_right_is_refused(model, with_embeddings):
    ids = torch.arange(2, 14).view(2, 6)
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    inputs = {"inputs_embeds": model.get_input_embeddings()(ids)} if with_embeddings else {"input_ids": ids}
    with pytest.raises(ValueError, match=r"rows \[1\] end in padding"):
        model.generate(**inputs, attention_mask=mask, max_new_tokens=2)
    model.generate(**inputs, attention_mask=mask.flip(1), max_new_tokens=2)


@pytest.mark.parametrize("with_embeddings", [False, True])
def test_decoding_stops_where_the_context_ends(with_embeddings):
    model = tiny_model(eos_token_id=None, max_position_embeddings=16)
    ids = torch.arange(2, 12)[None]
    inputs = {"inputs_embeds": model.get_input_embeddings()(ids)} if with_embeddings else {"input_ids": ids}
    answer = model.generate(**inputs, max_new_tokens=500, do_sample=False)
    assert answer.shape[1] == 16 - 10 * with_embeddings
    shorter = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert answer.tolist() == shorter.tolist()


def test_continuous_batching_refuses_what_it_has_no_image_for(model):
    placeholders = [IMAGE_TOKEN_ID] * TOKENS_PER_IMAGE
    with pytest.raises(ValueError, match="continuous batching takes no images"):
        model.generate_batch([[2, 3, 4], [2, *placeholders, 3]], max_new_tokens=2)
    with pytest.raises(ValueError, match="context"):
        model.generate_batch([[2] * 300], max_new_tokens=2)


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.17"),
    reason="continuous batching of transformers 5.16 takes text models alone, by their configuration",
)
def test_continuous_batching_answers_as_generate_does(model):
    config = GenerationConfig(max_new_tokens=5, do_sample=False, eos_token_id=-1)
    prompts = [[2, 3, 4, 5], [7, 8, 9]]
    # What it takes for its cache otherwise is nine tenths of the memory that is free.
    memory = transformers.ContinuousBatchingConfig(num_blocks=8, max_batch_tokens=64)
    answers = model.generate_batch(prompts, generation_config=config, continuous_batching_config=memory)
    for prompt, answer in zip(prompts, answers.values(), strict=True):
        alone = model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=5, do_sample=False)
        assert answer.generated_tokens == alone[0, len(prompt) :].tolist()


@pytest.mark.parametrize("chunk", [0, -3, 2.5, "4"])
def test_prefill_chunks_have_a_size(model, chunk):
    with pytest.raises((ValueError, TypeError), match="prefill_chunk_size"):
        model.generate(input_ids=torch.arange(2, 12)[None], prefill_chunk_size=chunk, max_new_tokens=2)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_cache_is_taken_under_either_name(model, name):
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        whole = model(input_ids=ids).logits[:, -1]
        first = model(input_ids=ids[:, :6], use_cache=True)
        rest = model(input_ids=ids[:, 6:], **{name: first[CACHE_NAME]}).logits[:, -1]
    torch.testing.assert_close(whole, rest)
    with pytest.raises(ValueError, match="two names"):
        model(input_ids=ids[:, 6:], cache=first[CACHE_NAME], past_key_values=first[CACHE_NAME])


def test_stop_tokens_of_an_own_checkpoint_are_kept(tmp_path):
    folder = write_tiny_checkpoint(tmp_path)
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"eos_token_id": [2, 38]}))
    assert FastVLMForConditionalGeneration.from_pretrained(folder).generation_config.eos_token_id == [2, 38]
    settings.pop("eos_token_id")
    path.write_text(json.dumps(settings))
    model = FastVLMForConditionalGeneration.from_pretrained(folder)
    assert model.generation_config.eos_token_id == model.config.text_config.eos_token_id
    path.unlink()
    assert FastVLMForConditionalGeneration.from_pretrained(folder).generation_config.eos_token_id is not None


@pytest.mark.parametrize(
    "setting",
    [
        {"pad_token_id": []},
        {"pad_token_id": "x"},
        {"eos_token_id": "x"},
        {"eos_token_id": ["a"]},
        {"eos_token_id": 1.5},
        {"bos_token_id": {}},
        {"max_new_tokens": []},
        {"suppress_tokens": 4},
        {"watermarking_config": 5},
        {"cache_implementation": "no such cache"},
    ],
)
def test_a_generation_setting_of_a_wrong_type_names_the_file(tmp_path, setting):
    folder = write_tiny_checkpoint(tmp_path)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | setting))
    with pytest.raises(ValueError, match=rf"generation_config\.json of .*{re.escape(str(folder))}.* has a bad value"):
        FastVLMForConditionalGeneration.from_pretrained(folder)
