"""How a request is answered: prompt, stream, stops, cancelling, seeds, mistakes; on the bundled and a random model."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from chat_rows import picture
from running_scripts import ENVIRONMENT
from tiny_models import adapter_for, write_tiny_checkpoint
from transformers_fastvlm.image_reading import read_image
from transformers_fastvlm.inference import (
    Answerer,
    AnswerOptions,
    ModelOptions,
    RunOptions,
    generate_answers,
    load_answerer,
    model_options,
    prepare_inputs,
)

TINY_READER = Path(__file__).parents[2] / "checkpoints" / "tiny-reader"


@pytest.fixture(scope="module")
def reader() -> Answerer:
    return load_answerer(ModelOptions(model_options.bundled_checkpoint()), RunOptions("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def endless(folder) -> Answerer:
    """A random model, which never ends a turn."""
    answerer = load_answerer(ModelOptions(str(folder)), RunOptions("cpu"))
    answerer.model.generation_config.eos_token_id = None
    return answerer


def asked(text: str, *images) -> list[dict]:
    shown = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]


def sign():
    return read_image(TINY_READER / "images" / "sign.png")


def test_tokens_come_one_by_one_and_make_the_answer(reader):
    with reader.stream(asked("What does it say?", sign())) as stream:
        assert list(stream) == list("HELLO")
    answer = stream.answer
    assert (answer.text, answer.finish_reason, answer.tokens) == ("HELLO", "stop", 6)
    assert (
        answer.prompt_tokens
        == prepare_inputs(reader.processor, asked("What does it say?", sign()), AnswerOptions())["input_ids"].shape[1]
    )
    assert 0 < answer.time_to_first_token < answer.seconds
    assert answer.tokens_per_second == pytest.approx(5 / (answer.seconds - answer.time_to_first_token))


@pytest.mark.parametrize("images", [0, 1, 2])
def test_it_is_what_generate_gives(endless, images):
    messages = asked("What is it?", *[picture(), picture(60, 90)][:images])
    expected = generate_answers(endless.model, endless.processor, [messages], max_new_tokens=12, do_sample=False)
    answer = endless.answer(messages, AnswerOptions(max_new_tokens=12))
    assert [answer.text.strip()] == expected
    assert (answer.finish_reason, answer.tokens) == ("length", 12)


def test_a_conversation_goes_on(endless):
    messages = [*asked("First", picture()), {"role": "assistant", "content": "One"}, *asked("Second", picture(70, 20))]
    [expected] = generate_answers(endless.model, endless.processor, [messages], max_new_tokens=8, do_sample=False)
    assert endless.answer(messages, AnswerOptions(max_new_tokens=8)).text.strip() == expected


def test_typed_control_tokens_are_text(reader):
    inputs = prepare_inputs(reader.processor, asked("Is <image> an image<|im_end|>?", sign()), AnswerOptions())
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(reader.processor.image_token_id) == 9
    assert ids.count(reader.end_ids[0]) == 2
    assert "Is <image> an image<|im_end|>?" in reader.processor.tokenizer.decode(ids)


def test_tiles_are_as_asked_for(reader):
    def count(tiles):
        inputs = prepare_inputs(reader.processor, asked("What?", picture(400, 300)), AnswerOptions(tiles=tiles))
        return len(inputs["pixel_values"])

    assert (count(None), count(False), count(True)) == (1, 1, 5)


def test_a_stop_text_ends_the_work(endless):
    messages = asked("What is it?", picture())
    whole = endless.answer(messages, AnswerOptions(max_new_tokens=20))
    stop = whole.text[4:6]
    answer = endless.answer(messages, AnswerOptions(max_new_tokens=20, stop=(stop,)))
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.finish_reason == "stop"
    assert answer.tokens < 20


def test_cancelling_ends_the_work(endless):
    stream = endless.stream(asked("What is it?", picture()), AnswerOptions(max_new_tokens=1000))
    pieces = iter(stream)
    first = next(pieces)
    stream.cancel()
    rest = "".join(pieces)
    assert stream.answer.finish_reason == "cancelled"
    assert stream.answer.text == first + rest
    assert stream.answer.tokens < 200
    assert endless.answer(asked("And now?"), AnswerOptions(max_new_tokens=2)).tokens == 2


def test_leaving_cancels(endless):
    with endless.stream(asked("What is it?"), AnswerOptions(max_new_tokens=1000)) as stream:
        pieces = iter(stream)
        next(pieces)
    assert stream.answer.finish_reason == "cancelled"


def test_giving_up_an_iteration_cancels(endless):
    stream = endless.stream(asked("What is it?"), AnswerOptions(max_new_tokens=1000))
    for _ in stream:
        break
    assert stream.answer.finish_reason == "cancelled"


LEAVING = """
import sys
from transformers_fastvlm.inference import AnswerOptions, ModelOptions, RunOptions, load_answerer

answerer = load_answerer(ModelOptions(sys.argv[1]), RunOptions("cpu"))
pieces = iter(answerer.stream([{"role": "user", "content": "Go on"}], AnswerOptions(max_new_tokens=1500)))
next(pieces)
print("left")
"""


def test_a_process_may_end_while_it_answers(folder):
    command = [sys.executable, "-c", LEAVING, str(folder)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr
    assert "terminate" not in done.stderr


def test_what_is_cancelled_before_its_turn_is_never_begun(endless):
    with endless.stream(asked("What is it?"), AnswerOptions(max_new_tokens=1000)) as first:
        pieces = iter(first)
        next(pieces)
        second = endless.stream(asked("And now?"), AnswerOptions(max_new_tokens=1000))
        second.cancel()
    pieces.close()
    assert (second.answer.tokens, second.answer.time_to_first_token) == (0, None)
    assert second.answer.tokens_per_second is None


def test_a_seed_draws_the_same_and_leaves_other_draws_alone(endless):
    def drawn(seed: int | None) -> str:
        options = AnswerOptions(max_new_tokens=24, temperature=1.0, seed=seed)
        return endless.answer(asked("What is it?", picture()), options).text

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = drawn(7)
    assert torch.equal(torch.rand(3), expected)
    assert drawn(7) == first
    assert drawn(8) != first
    greedy = endless.answer(asked("What is it?", picture()), AnswerOptions(max_new_tokens=24)).text
    assert first != greedy
    assert len({drawn(None) for _ in range(3)}) > 1
    assert (
        endless.answer(
            asked("What is it?", picture()), AnswerOptions(max_new_tokens=24, temperature=1.0, top_p=1e-6)
        ).text
        == greedy
    )


def test_threads_share_it(endless):
    questions = [f"What is {number}?" for number in range(6)]
    options = AnswerOptions(max_new_tokens=10)
    expected = [endless.answer(asked(question, picture()), options).text for question in questions]
    found: dict[int, str] = {}

    def ask(place: int) -> None:
        found[place] = endless.answer(asked(questions[place], picture()), options).text

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in range(6)] == expected


def test_what_the_model_refuses_is_raised_where_it_is_read(reader):
    stream = reader.stream(asked("x " * 2000))
    with pytest.raises(ValueError, match="context is 1024"):
        list(stream)
    with pytest.raises(ValueError, match="context is 1024"):
        _ = stream.answer
    assert reader.answer(asked("What does it say?", sign())).text == "HELLO"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no message"),
        ("What?", "no message"),
        (["What?"], "must be the user's"),
        ([{"role": "assistant", "content": "Yes"}], "must be the user's"),
        ([{"role": "user", "content": " "}], "question is empty"),
        ([{"role": "user", "content": []}], "question is empty"),
        ([{"role": "user", "content": None}], "question is empty"),
        ([{"role": "user", "content": [{"type": "image", "image": "/etc/hostname"}]}], "PIL image"),
        ([{"role": "user", "content": [{"type": "image", "url": "http://127.0.0.1/a.png"}]}], "PIL image"),
        ([{"role": "user", "content": [{"type": "image", "image": picture(), "url": "file:///etc"}]}], "PIL image"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}], "'image_url'"),
        ([{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}], "'video'"),
        ([{"role": "user", "content": ["What?"]}], "None"),
        ([{"role": "tool", "content": "5"}, {"role": "user", "content": "What?"}], "'tool'"),
        ([{"role": "user", "content": "half \ud800"}], "surrogate"),
        ([{"content": "?"}, {"role": "user", "content": "What?"}], "`role`"),
    ],
)
def test_what_is_no_conversation_is_refused(reader, messages, message):
    with pytest.raises(Exception, match=message):
        reader.stream(messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"stop": ("a", "")}, "stop"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AnswerOptions(**options)


def test_optimizing_merges_the_adapter(folder, tmp_path):
    adapter_for(folder, tmp_path)
    options = AnswerOptions(max_new_tokens=8)
    plain = load_answerer(ModelOptions(str(folder), adapter=str(tmp_path)), RunOptions("cpu"))
    fast = load_answerer(ModelOptions(str(folder), adapter=str(tmp_path)), RunOptions("cpu", optimize=True))
    messages = asked("What is it?", picture())
    assert fast.answer(messages, options).text == plain.answer(messages, options).text
    assert any(type(module).__name__ == "PackedLinear" for module in fast.model.modules())
