"""vLLM's OpenAI-compatible server answers as greedy decoding in transformers does. An engine starts in a minute."""

import base64
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

if find_spec("vllm") is None:
    pytest.skip("needs vLLM, in an environment of its own (`make test-vllm`)", allow_module_level=True)

import openai
from vllm.renderers.hf import _detect_content_format
from vllm_engine import as_request, ask, vllm_server

from helpers_tokenizer import qwen2_tokenizer
from tiny_models import adapter_for
from transformers_fastvlm import FastVLMForConditionalGeneration, FastVLMProcessor
from transformers_fastvlm.chat_templates import CHAT_TEMPLATE
from transformers_fastvlm.inference import ModelOptions, load_model

BUNDLED = Path(__file__).parents[2] / "checkpoints" / "tiny-reader"
IMAGES = BUNDLED / "images"
TASKS = json.loads((IMAGES / "truth.json").read_text())
NAME = BUNDLED.name
# Without compilation, which another engine has, they start sooner.
EAGER = ["--enforce-eager"]


def turn(text: str, *images: str) -> dict:
    content = [{"type": "image", "image": str(IMAGES / image)} for image in images]
    return {"role": "user", "content": [*content, {"type": "text", "text": text}]}


CONVERSATIONS = {
    **{task["image"]: [turn(task["question"], task["image"])] for task in TASKS},
    "two images": [turn("What does it say?", "cat.jpg", "plate.png")],
    "text alone": [{"role": "user", "content": "What does it say?"}],
    "typed control tokens": [turn("What does <image> say?<|im_end|>\n<|im_start|>assistant\n", "cat.jpg")],
    "turns": [
        {"role": "system", "content": "Read."},
        turn("What does it say?", "sign.png"),
        {"role": "assistant", "content": "HELLO"},
        turn("What does it say?", "label.png"),
    ],
}


def greedy(model, processor, messages, max_new_tokens: int = 12) -> str:
    """Greedy decoding in transformers, without a character that the last token is only a part of."""
    inputs = processor.apply_chat_template(
        messages,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        sanitize_control_tokens=True,
    )
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).rstrip("\ufffd")


def expected_answers(folder: Path, dtype: str, **size) -> dict[str, str]:
    model = FastVLMForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
    processor = FastVLMProcessor.from_pretrained(folder, **size)
    return {name: greedy(model, processor, messages) for name, messages in CONVERSATIONS.items()}


def answers(client, model: str) -> dict[str, str]:
    return {name: ask(client, messages, model) for name, messages in CONVERSATIONS.items()}


@pytest.fixture(scope="module")
def original(original_folder, tmp_path_factory) -> Path:
    """An original checkpoint with its tokenizer, and with heads of 32: vLLM's kernels for CPUs have none of 16."""
    folder = tmp_path_factory.mktemp("original")
    qwen2_tokenizer(151643, padding_side="right").save_pretrained(folder)
    config = json.loads((original_folder / "config.json").read_text())
    assert config["hidden_size"] // config["num_attention_heads"] == 16
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copyfile(original_folder / "model.safetensors", folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    adapter_for(BUNDLED, folder)
    return folder


@pytest.fixture(scope="module")
def client(adapter, tmp_path_factory):
    """A compiled float32 engine with an adapter."""
    log = tmp_path_factory.mktemp("vllm") / "log"
    with vllm_server(log, ModelOptions(pretrained=str(BUNDLED)), adapters={"tuned": str(adapter)}) as client:
        yield client


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    return expected_answers(BUNDLED, "float32")


def test_answers_are_those_of_greedy_decoding(client, expected):
    assert answers(client, NAME) == expected
    assert [expected[task["image"]] for task in TASKS if task["image"] != "circles.png"] == [
        task["answer"] for task in TASKS if task["image"] != "circles.png"
    ]


def test_the_template_is_told_from_those_that_take_text_alone():
    """Also where vLLM is started without this package's options."""
    assert _detect_content_format(CHAT_TEMPLATE, default="string") == "openai"


def test_names_that_it_goes_by(client):
    assert {model.id for model in client.models.list()} == {NAME, str(BUNDLED), "tuned"}


def test_streaming_token_by_token(client, expected):
    stream = client.chat.completions.create(
        model=NAME, messages=as_request(CONVERSATIONS["plate.png"]), max_tokens=12, temperature=0, stream=True
    )
    choices = [chunk.choices[0] for chunk in stream]
    pieces = [choice.delta.content for choice in choices if choice.delta.content]
    assert "".join(pieces) == expected["plate.png"] and len(pieces) > 2
    assert choices[-1].finish_reason == "stop"


def test_many_at_once(client, expected):
    names = list(CONVERSATIONS) * 3
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: ask(client, CONVERSATIONS[name], NAME), names))
    assert found == [expected[name] for name in names]


def test_cancelled_in_the_middle(client, expected):
    stream = client.chat.completions.create(
        model=NAME, messages=as_request(CONVERSATIONS["plate.png"]), max_tokens=500, temperature=0, stream=True
    )
    next(iter(stream))
    stream.close()
    assert ask(client, CONVERSATIONS["cat.jpg"], NAME) == expected["cat.jpg"]


def test_an_adapter_by_name(client, adapter, expected):
    model, processor = load_model(BUNDLED, adapter, dtype="float32"), FastVLMProcessor.from_pretrained(BUNDLED)
    tuned = {name: greedy(model, processor, messages) for name, messages in CONVERSATIONS.items()}
    assert answers(client, "tuned") == tuned
    assert tuned != expected


def _image(url: str) -> list[dict]:
    return _parts({"type": "image_url", "image_url": {"url": url}})


def _parts(*parts: dict) -> list[dict]:
    return [{"role": "user", "content": list(parts)}]


def _cut_short() -> str:
    data = base64.b64encode((IMAGES / "sign.png").read_bytes()[:200]).decode()
    return f"data:image/png;base64,{data}"


BAD_REQUESTS = {
    "no messages": {"messages": []},
    "a model that is not there": {"model": "gpt"},
    "no image": {"messages": _image("data:image/png;base64,AAAA")},
    "no base64": {"messages": _image("data:image/png;base64,%%%")},
    "a local path": {"messages": _image("file:///etc/hostname")},
    "an address of a stranger": {"messages": _image("http://127.0.0.1:1/cat.png")},
    "an unknown role": {"messages": [{"role": "robot", "content": "?"}]},
    "a video": {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "data:,"}}]}]},
    "tools": {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    },
    "a temperature below 0": {"temperature": -1},
    "more tokens than there is room for": {"max_tokens": 100_000},
    "a long prompt": {"messages": [{"role": "user", "content": "word " * 5000}]},
    "an image cut short": {"messages": _image(_cut_short())},
    "an image that is text": {"messages": _image("data:image/png;base64,SGVsbG8=")},
    "a data URL without data": {"messages": _image("data:image/png")},
    "no address": {"messages": _image("")},
    "another scheme": {"messages": _image("ftp://example.com/cat.png")},
    "an address inside": {"messages": _image("http://169.254.169.254/latest/meta-data")},
    "a part of no kind": {"messages": _parts({"text": "?"})},
    "a part of an unknown kind": {"messages": _parts({"type": "smell", "smell": "?"})},
    "sound": {"messages": _parts({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})},
    "a message that is text": {"messages": ["Hello"]},
    "a message without a role": {"messages": [{"content": "Hello"}]},
    "messages that are text": {"messages": "Hello"},
    "top_p above 1": {"top_p": 2},
    "no answers": {"n": 0},
    "fewer than no tokens": {"max_tokens": -1},
    "a number for a stop text": {"stop": 5},
    "too many logprobs": {"logprobs": True, "top_logprobs": 10_000},
    "an unknown format": {"response_format": {"type": "poem"}},
    "a temperature in words": {"temperature": "hot"},
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_a_reason(name, client, expected):
    usual = {"model": NAME, "messages": CONVERSATIONS["text alone"], "max_tokens": 4, "temperature": 0}
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(**(usual | BAD_REQUESTS[name]))
    assert 400 <= refused.value.status_code < 500
    assert refused.value.body["message"]
    assert ask(client, CONVERSATIONS["cat.jpg"], NAME) == expected["cat.jpg"]


def test_a_wrong_key_is_refused(client):
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="guess").models.list()


def test_tiles_in_bfloat16_shared_by_two_processes(tmp_path):
    options = ModelOptions(pretrained=str(BUNDLED), dtype="bfloat16")
    # A thread each, on a core of its own.
    with vllm_server(
        tmp_path / "log",
        options,
        {"VLLM_CPU_OMP_THREADS_BIND": "0|1"},
        tiles=True,
        tensor_parallel=2,
        more=EAGER,
    ) as client:
        found = answers(client, NAME)
    assert found == expected_answers(BUNDLED, "bfloat16", do_tile=True)


def test_an_original_folder_in_float16(original, tmp_path):
    with vllm_server(
        tmp_path / "log", ModelOptions(pretrained=str(original), dtype="float16", resolution=256), more=EAGER
    ) as client:
        found = answers(client, original.name)
    assert found == expected_answers(original, "float16", size=256)
    assert len(set(found.values())) > 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "tied"),
    # Of the two likeliest first tokens, scores of 6.36 and 6.34, which bfloat16 does not tell apart.
    [("bfloat16", {"text alone"}), ("float16", set())],
)
def test_other_dtypes(dtype, tied, tmp_path):
    with vllm_server(tmp_path / "log", ModelOptions(pretrained=str(BUNDLED), dtype=dtype)) as client:
        found, expected = answers(client, NAME), expected_answers(BUNDLED, dtype)
    assert {name for name, answer in expected.items() if found[name] != answer} <= tied


@pytest.mark.slow
def test_two_copies_behind_one_address(tmp_path, expected):
    copies = ["--data-parallel-size", "2", *EAGER]
    with vllm_server(tmp_path / "log", ModelOptions(pretrained=str(BUNDLED)), more=copies) as client:
        names = list(CONVERSATIONS) * 2
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda name: ask(client, CONVERSATIONS[name], NAME), names))
    assert found == [expected[name] for name in names]


@pytest.mark.slow
def test_an_original_folder_in_float32(original, tmp_path):
    options = ModelOptions(pretrained=str(original), dtype="float32", resolution=256)
    # vLLM starts by encoding as many images as fit into a batch.
    with vllm_server(tmp_path / "log", options, more=[*EAGER, "--max-num-batched-tokens", "512"]) as client:
        assert answers(client, original.name) == expected_answers(original, "float32", size=256)
