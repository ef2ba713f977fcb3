# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Adapters by name, and requests of several at a time."""

import asyncio
import base64
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

pytest.importorskip("pydantic", reason="the server needs the `serve` extra")
pytest.importorskip("prometheus_client", reason="the server needs the `serve` extra")
peft = pytest.importorskip("peft", reason="adapters need the `train` extra")

from serving.running_server import BUNDLED
from transformers_fastvlm.inference import AnswerOptions, ModelOptions, RunOptions, load_answerer
from transformers_fastvlm.serving import ServingConfig
from transformers_fastvlm.serving.chat_completions import ChatRequest, chunks
from transformers_fastvlm.serving.conversations import parsed
from transformers_fastvlm.serving.errors import RequestError
from transformers_fastvlm.serving.responses import ResponseForm, ResponseRequest
from transformers_fastvlm.serving.service import Service

OPTIONS = AnswerOptions(max_new_tokens=6)
SIGN = BUNDLED / "images" / "sign.png"
QUESTION = "What does it say?"
ADDRESS = "data:image/png;base64," + base64.b64encode(SIGN.read_bytes()).decode()
MESSAGES = [("user", [{"image": ADDRESS}, {"text": QUESTION}])]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> dict[str, str]:
    """Two LoRA adapters of the bundled checkpoint that make other answers of it."""
    folders = {}
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        model = load_answerer(ModelOptions(str(BUNDLED)), RunOptions("cpu")).model
        model = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
        for key, weight in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(weight, std=8.0)
        folders[name] = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module")
def service(adapters):
    given = tuple(f"{name}={folder}" for name, folder in adapters.items())
    service = Service.load(ServingConfig(ModelOptions(str(BUNDLED)), RunOptions("cpu"), adapters=given))
    yield service
    service.close()


def answers(service, names: list[str]) -> list[str]:
    async def one(name: str) -> str:
        return (await (await service.start(name, MESSAGES, OPTIONS)).whole()).text

    async def together() -> list[str]:
        return list(await asyncio.gather(*map(one, names)))

    return asyncio.run(together())


def test_adapters_answer_by_their_names_at_a_time_as_each_alone(service, adapters):
    content = [{"type": "image", "image": Image.open(SIGN)}, {"type": "text", "text": QUESTION}]
    messages = [{"role": "user", "content": content}]

    def alone(adapter):
        options = ModelOptions(str(BUNDLED), adapter=adapter)
        return load_answerer(options, RunOptions("cpu")).answer(messages, OPTIONS).text

    names = ["tiny-reader", *adapters]
    expected = [alone(adapter) for adapter in (None, *adapters.values())]
    assert len(set(expected)) == 3
    assert answers(service, names * 3) == expected * 3
    assert service.names == names


def test_an_answer_is_json_of_a_schema(service):
    pytest.importorskip("llguidance", reason="schemas need the `schema` extra")
    schema = {"type": "object", "properties": {"word": {"enum": ["STOP", "GO"]}}, "required": ["word"]}
    schema["additionalProperties"] = False
    wanted = {"model": "tiny-reader", "messages": [{"role": "user", "content": "Hello"}]}
    wanted["response_format"] = {"type": "json_schema", "json_schema": {"name": "word", "schema": schema}}
    options = parsed(ChatRequest, wanted).options(40)

    async def text() -> str:
        return (await (await service.start("tiny-reader", MESSAGES, options)).whole()).text

    assert json.loads(asyncio.run(text()))["word"] in ("STOP", "GO")


def events_of_a_failure(form) -> list[str]:
    async def running():
        yield "HE"
        raise RequestError("It failed.", 500)

    async def collected() -> list[str]:
        return [event async for event in form(running())]

    return asyncio.run(collected())


def test_an_error_on_the_way_is_told_in_the_stream():
    chat = ChatRequest(model="m", messages=[{"role": "user", "content": "x"}])
    *_, error, done = events_of_a_failure(lambda running: chunks(running, chat, "1", 0, "m"))
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == "It failed."
    assert done == "data: [DONE]\n\n"
    form = ResponseForm(ResponseRequest(model="m", input="x"), "1", 0, "m")
    error = events_of_a_failure(form.events)[-1].splitlines()[1]
    assert json.loads(error.removeprefix("data: "))["message"] == "It failed."


def test_a_request_that_takes_too_long_is_told(service, monkeypatch):
    monkeypatch.setattr(service, "config", replace(service.config, timeout=1e-6))
    with pytest.raises(RequestError, match="took longer than 1e-06 seconds") as caught:
        answers(service, ["first"])
    assert caught.value.status == 504


def test_a_name_that_is_not_there(service):
    with pytest.raises(RequestError, match=r"no model 'third' here; there are: tiny-reader, first, second\."):
        answers(service, ["third"])


def test_a_mistake_in_the_engine_is_told_and_the_next_request_is_answered(service, monkeypatch):
    expected = answers(service, ["first"])

    def fail(self, joining):
        raise RuntimeError("of this test")

    with monkeypatch.context() as patch:
        patch.setattr("transformers_fastvlm.inference.joint_decoding.JointDecoder.add", fail)
        with pytest.raises(RequestError, match="The model failed on this request") as caught:
            answers(service, ["first"])
    assert caught.value.status == 500
    assert answers(service, ["first"]) == expected
