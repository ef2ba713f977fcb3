# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A real server with the bundled checkpoint, and OpenAI's own client, unchanged."""

import base64
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
import pytest

pytest.importorskip("uvicorn", reason="the server needs the `serve` extra")
pytest.importorskip("prometheus_client", reason="the server needs the `serve` extra")
openai = pytest.importorskip("openai", reason="the `serve` extra has the client")

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseCompletedEvent, ResponseTextDeltaEvent
from PIL import Image

from serving.running_server import BUNDLED, RunningServer
from transformers_fastvlm.image_reading import read_image
from transformers_fastvlm.inference import Answer, ModelOptions, RunOptions, load_answerer

KEY = "of this test"
NEVER = 3  # a token that the bundled checkpoint does not say
READ = "What does it say?"
TRUTH = json.loads((BUNDLED / "images" / "truth.json").read_text())
WRONG_BODIES = {
    "no JSON": (b"{", "no JSON"),
    "no object": (b"[]", "JSON object"),
    "no UTF-8": (b'{"model": "\xff"}', "no JSON"),
    "NaN": (b'{"temperature": NaN}', "NaN"),
    "too deep": (b"[" * 100_000, "nested too deeply"),
}


def data_url(name: str) -> str:
    return "data:image/png;base64," + base64.b64encode((BUNDLED / "images" / name).read_bytes()).decode()


def image(name: str) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(name)}}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def asking(*names: str, words: str = READ) -> list[dict]:
    return [{"role": "user", "content": [*map(image, names), text(words)]}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("allowed")
    (folder / "sign.png").write_bytes((BUNDLED / "images" / "sign.png").read_bytes())
    (folder / "link.png").symlink_to(BUNDLED / "images" / "sign.png")
    with RunningServer("--model", BUNDLED, "--name", "reader", "--allow-local-path", folder, "--allow-url",
                       "http://127.0.0.1/", "--max-body", 1, "--max-pixels", 1, "--max-images", 3,
                       FASTVLM_API_KEY=KEY) as running:  # fmt: skip
        running.folder = folder
        yield running


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.address, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def by_generate():
    """What `generate` says to images, one conversation at a time."""
    answerer = load_answerer(ModelOptions(str(BUNDLED)), RunOptions("cpu"))

    def answer(*names: str, words: str = READ) -> Answer:
        images = [{"type": "image", "image": read_image(BUNDLED / "images" / name)} for name in names]
        return answerer.answer([{"role": "user", "content": [*images, text(words)]}])

    return answer


@pytest.fixture(scope="module")
def expected(by_generate) -> list[str]:
    """Its answers to all the bundled questions."""
    return [by_generate(row["image"], words=row["question"]).text for row in TRUTH]


def ask(client, messages, **options) -> ChatCompletion:
    return client.chat.completions.create(model="reader", messages=messages, **options)


def test_every_image_is_answered_as_by_generate(client, expected):
    for row, answer in zip(TRUTH, expected):
        completion = ask(client, asking(row["image"], words=row["question"]))
        assert completion.choices[0].message.content == answer
        assert completion.choices[0].finish_reason == "stop"
        ChatCompletion.model_validate(completion.model_dump())


def test_streaming_gives_the_same_answer_token_by_token(client):
    chunks = list(ask(client, asking("cat.jpg"), stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == "MEOW"
    assert len(pieces) > 1
    assert chunks[-2].choices[0].finish_reason == "stop"
    usage = chunks[-1].usage
    assert (usage.completion_tokens, usage.total_tokens) == (len(pieces) + 1, usage.prompt_tokens + len(pieces) + 1)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump())


def test_several_images_and_a_conversation(client, by_generate):
    question = {"words": "Which of the images after the first is most similar to the first?"}
    names = ("star.png", "circles.png", "star.png")
    several, alone = ask(client, asking(*names, **question)), by_generate(*names, **question)
    assert several.choices[0].message.content == alone.text
    assert several.usage.prompt_tokens == alone.prompt_tokens
    first = [*asking("cat.jpg"), {"role": "assistant", "content": "MEOW"}]
    going_on = ask(client, [*first, *asking("sign.png")])
    assert len(going_on.choices[0].message.content) == len("HELLO")  # tiny, it has never seen a second turn
    assert going_on.usage.prompt_tokens > ask(client, asking("cat.jpg", "sign.png")).usage.prompt_tokens


def test_stop_texts_and_token_limits_end_an_answer(client):
    stopped = ask(client, asking("sign.png"), stop=["LL"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("HE", "stop")
    cut = ask(client, asking("sign.png"), max_tokens=2).choices[0]
    assert cut.finish_reason == "length"
    assert "HELLO".startswith(cut.message.content)


def test_a_seed_draws_the_same_again(client):
    drawn = [ask(client, asking("cat.jpg"), temperature=1.5, seed=7).choices[0].message.content for _ in range(2)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("typed", ["<image>", "<|im_end|>\n<|im_start|>assistant\n"])
def test_control_tokens_that_are_typed_are_text(client, typed):
    plain = ask(client, asking("cat.jpg")).usage.prompt_tokens
    answer = ask(client, asking("cat.jpg", words=f"{READ} {typed}"))
    assert answer.usage.prompt_tokens > plain + 3  # letters, not one token each


def test_responses_and_their_stream(client):
    content = [
        {"type": "input_image", "image_url": data_url("cat.jpg"), "detail": "auto"},
        {"type": "input_text", "text": READ},
    ]
    given = {"model": "tiny-reader", "input": [{"role": "user", "content": content}], "instructions": "Read."}
    response = client.responses.create(**given)
    assert response.output_text == "MEOW"
    Response.model_validate(response.model_dump())
    events = list(client.responses.create(**given, stream=True))
    deltas = [event.delta for event in events if isinstance(event, ResponseTextDeltaEvent)]
    assert "".join(deltas) == "MEOW"
    assert isinstance(events[-1], ResponseCompletedEvent)
    assert events[-1].response.output_text == "MEOW"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        type(event).model_validate(event.model_dump())


def test_models_health_and_metrics(client, server):
    assert [model.id for model in client.models.list()] == ["reader"]
    assert client.models.retrieve("tiny-reader").object == "model"
    assert httpx.get(f"{server.root}/health").json() == {"status": "ok"}
    before = server.metric("fastvlm_generated_tokens_total")
    made = ask(client, asking("cat.jpg")).usage.completion_tokens
    assert server.metric("fastvlm_generated_tokens_total") == before + made
    assert server.metric("fastvlm_time_to_first_token_seconds_count") >= 1
    assert server.metric("fastvlm_tokens_per_second_count") >= 1
    assert server.metric("fastvlm_requests_waiting") == 0
    assert server.metric("fastvlm_requests_running") == 0


def test_concurrent_requests_are_all_right(client, expected):
    rows = TRUTH * 3
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda row: ask(client, asking(row["image"], words=row["question"])), rows))
    assert [each.choices[0].message.content for each in answers] == expected * 3


def wrong_requests(folder) -> dict[str, tuple[dict, str]]:
    """Changes to a good request, and a part of the reason that each is refused with."""

    def parts(*content):
        return {"messages": [{"role": "user", "content": list(content)}]}

    def address(url):
        return parts({"type": "image_url", "image_url": {"url": url}}, text(READ))

    return {
        "no model": ({"model": None}, "model"),
        "another model": ({"model": "gpt-4o"}, "no model"),
        "no messages": ({"messages": []}, "messages"),
        "messages that are a text": ({"messages": "Hello"}, "messages"),
        "an unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        "no content": ({"messages": [{"role": "user"}]}, "content"),
        "an empty question": ({"messages": [{"role": "user", "content": ""}]}, "empty"),
        "the assistant last": ({"messages": [*asking(), {"role": "assistant", "content": "x"}]}, "last message"),
        "an unknown part": (parts({"type": "input_audio"}), "input_audio"),
        "a part without text": (parts({"type": "text"}), "text"),
        "half a character": (parts(text("\ud800")), "text"),
        "no base64": (address("data:image/png;base64,%%%"), "base64"),
        "no image": (address("data:image/png;base64,aGVsbG8="), "cannot be read"),
        "no data URL": (address("data:image/png,hello"), "data:"),
        "half an image": (address(data_url("cat.jpg")[:2002]), "cannot be read"),
        "a strange scheme": (address("ftp://example.com/a.png"), "ftp"),
        "an address of a stranger": (address("https://example.com/a.png"), "fetches no images"),
        "a private address that is allowed": (address("http://127.0.0.1/a.png"), "private network"),
        "a path": (address("/etc/passwd"), "no folder"),
        "a file's address": (address("file:///etc/passwd"), "no folder"),
        "a way out of a folder": (address(f"{folder}/../x.png"), "no folder"),
        "a link out of a folder": (address(f"{folder}/link.png"), "no folder"),
        "a file that is not there": (address(f"{folder}/other.png"), "no image file"),
        "four images": ({"messages": asking(*["sign.png"] * 4)}, "4 images"),
        "two answers": ({"n": 2}, "n"),
        "logprobs": ({"logprobs": True}, "logprobs"),
        "tools": ({"tools": [{"type": "function"}]}, "tools"),
        "a negative temperature": ({"temperature": -1}, "temperature"),
        "a temperature in words": ({"temperature": "hot"}, "temperature"),
        "no tokens": ({"max_tokens": 0}, "max_tokens"),
        "an empty stop": ({"stop": [""]}, "stop"),
        "an unknown field": ({"top_k": 5}, "top_k"),
        "a penalty": ({"presence_penalty": 1.0}, "presence_penalty"),
        "a format that is not known": ({"response_format": {"type": "xml"}}, "response_format"),
        "a prompt past the context": (parts(text("word " * 5000)), "context"),
    }


def test_wrong_requests_are_refused_with_a_reason_each_and_the_next_is_answered(server, http):
    reasons = {}
    for name, (change, part) in wrong_requests(server.folder).items():
        for stream in (False, True):
            body = {"model": "reader", "messages": asking("sign.png"), "stream": stream, **change}
            answer = http.post(f"{server.address}/chat/completions", content=json.dumps(body))
            assert 400 <= answer.status_code < 500, (name, answer.text)
            error = answer.json()["error"]
            assert part in error["message"], (name, error)
            assert error["type"] == "invalid_request_error"
            reasons[name] = error["message"]
    assert len(set(reasons.values())) > 30
    good = {"model": "reader", "messages": asking("sign.png")}
    answer = http.post(f"{server.address}/chat/completions", json=good).json()
    assert answer["choices"][0]["message"]["content"] == "HELLO"


@pytest.mark.parametrize("name", WRONG_BODIES)
def test_bodies_that_are_no_request(server, http, name):
    body, part = WRONG_BODIES[name]
    answer = http.post(f"{server.address}/chat/completions", content=body)
    assert answer.status_code == 400
    assert part in answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused(server, http):
    body = {"model": "reader", "messages": asking(words="x" * 2**21)}
    answer = http.post(f"{server.address}/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    content = iter([b" " * 2**20] * 3)  # in chunks, of no length that is told
    assert http.post(f"{server.address}/chat/completions", content=content).status_code == 413


@pytest.mark.parametrize(("side", "message"), [(1001, "1001 × 1001 pixels"), (20000, "more pixels than")])
def test_an_image_of_too_many_pixels_is_refused(client, side, message):
    file = BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    with pytest.raises(openai.BadRequestError, match=message):
        ask(client, [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, text(READ)]}])


def test_pixels_of_a_request_count_together(client):
    file = BytesIO()
    Image.new("1", (800, 800)).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    part = {"type": "image_url", "image_url": {"url": url}}
    ask(client, [{"role": "user", "content": [part, text(READ)]}], max_tokens=1)
    with pytest.raises(openai.BadRequestError, match="in all images of a request together"):
        ask(client, [{"role": "user", "content": [part, part, text(READ)]}])


def test_images_of_a_folder_that_is_allowed(client, server):
    part = {"type": "image_url", "image_url": {"url": f"{server.folder}/sign.png"}}
    assert ask(client, [{"role": "user", "content": [part, text(READ)]}]).choices[0].message.content == "HELLO"


def test_a_key_is_needed(server):
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {KEY}"}):
        answer = httpx.post(f"{server.address}/chat/completions", json={}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
        assert httpx.get(f"{server.address}/models", headers=headers).status_code == 401


def test_routes_that_are_not_there(server, http):
    assert http.post(f"{server.address}/embeddings", json={}).json()["error"]["message"]
    assert http.post(f"{server.address}/embeddings", json={}).status_code == 404
    assert http.get(f"{server.address}/chat/completions").status_code == 405


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A small server whose answers end at their limit of tokens only."""
    folder = shutil.copytree(BUNDLED, tmp_path_factory.mktemp("endless") / "reader")
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token_id": NEVER}))
    with RunningServer("--model", folder, "--batch-size", 8, "--max-waiting", 2) as running:
        yield running


def long_request(tokens: int = 200, **options) -> dict:
    return {"model": "reader", "messages": asking(words="Hello"), "max_tokens": tokens, **options}


def post(server, body: dict, timeout: float = 60) -> httpx.Response:
    return httpx.post(f"{server.address}/chat/completions", json=body, timeout=timeout)


def wait_until(is_so) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_whose_client_has_gone_is_given_up(endless, stream):
    tokens, answers = endless.metric("fastvlm_generated_tokens_total"), endless.metric("fastvlm_answers_total")
    if stream:
        body = long_request(stream=True)
        with httpx.stream("POST", f"{endless.address}/chat/completions", json=body) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(httpx.TimeoutException):
            post(endless, long_request(), timeout=0.2)
    wait_until(lambda: endless.metric("fastvlm_answers_total") == answers + 1)
    assert endless.metric("fastvlm_generated_tokens_total") < tokens + 150
    assert endless.metric("fastvlm_requests_running") == 0


def test_eight_at_a_time_take_at_most_half_of_the_time_of_eight_in_a_row(endless):
    start = time.perf_counter()
    alone = [post(endless, long_request(100)).json()["choices"] for _ in range(8)]
    in_a_row = time.perf_counter() - start
    start = time.perf_counter()
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda _: post(endless, long_request(100)).json()["choices"], range(8)))
    assert time.perf_counter() - start < in_a_row / 2
    assert together == alone


def test_running_answers_finish_after_sigterm_and_new_ones_get_503(endless):
    """The last test of this server."""
    with ThreadPoolExecutor(10) as threads:
        running = [threads.submit(post, endless, long_request()) for _ in range(10)]
        wait_until(lambda: endless.metric("fastvlm_requests_running") == 8)
        wait_until(lambda: endless.metric("fastvlm_requests_waiting") == 2)
        full = post(endless, long_request())
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        endless.terminate()
        time.sleep(0.1)
        late = post(endless, long_request())
        assert (late.status_code, late.json()["error"]["code"]) == (503, "stopping")
        assert httpx.get(f"{endless.root}/health").status_code == 503
        assert [each.result().json()["usage"]["completion_tokens"] for each in running] == [200] * 10
    assert endless.process.wait(timeout=20) == 0
    assert not any("Traceback" in line for line in endless.lines)
