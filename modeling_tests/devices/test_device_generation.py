"""The bundled checkpoint answers on the device under test as it does on the CPU, whichever way it is run."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoProcessor, TextIteratorStreamer

from conftest import assert_close_to_largest
from device_under_test import BUNDLED, DEVICE, TASKS, bundled_inputs, moved, needs_accelerator, needs_cuda, new_tokens
from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.inference import optimize_for_inference

pytestmark = pytest.mark.usefixtures("exact_float32")


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def prompts(processor) -> list[dict[str, torch.Tensor]]:
    """One for each picture, and all of them as a batch."""
    return [bundled_inputs(processor, tasks) for tasks in (*([task] for task in TASKS), TASKS)]


@pytest.fixture(scope="module")
def expected(prompts) -> list[list[list[int]]]:
    model = AutoModelForVision2Seq.from_pretrained(BUNDLED).eval()
    answers = [new_tokens(model, inputs) for inputs in prompts]
    *single, batch = answers
    assert [row for rows in single for row in rows] == batch
    assert len({tuple(row) for row in batch}) == len(batch)
    return answers


@pytest.fixture
def model():
    return AutoModelForVision2Seq.from_pretrained(BUNDLED).eval().to(DEVICE)


def answers(model, prompts, **options) -> list[list[list[int]]]:
    return [new_tokens(model, moved(inputs), **options) for inputs in prompts]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prefill_chunk_size": 7},
        {"num_beams": 1, "use_cache": False},
        {"prompt_lookup_num_tokens": 3},
    ],
    ids=["plain", "prefill in chunks", "no cache", "prompt lookup"],
)
def test_single_prompts_and_batches(model, prompts, expected, options):
    if "prompt_lookup_num_tokens" in options:  # takes one prompt at a time
        prompts, expected = prompts[:-1], expected[:-1]
    assert answers(model, prompts, **options) == expected


def test_a_static_cache_whose_decoding_step_is_compiled_on_gpus(model, prompts, expected):
    chosen = [0, 3, -1]
    answered = answers(model, [prompts[index] for index in chosen], cache_implementation="static")
    assert answered == [expected[index] for index in chosen]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_reads_the_same(prompts, expected, dtype):
    model = AutoModelForVision2Seq.from_pretrained(BUNDLED, dtype=dtype).eval().to(DEVICE)
    assert answers(model, prompts[-1:]) == expected[-1:]


def test_autocast_reads_the_same(model, prompts, expected):
    with torch.autocast(DEVICE.type, torch.bfloat16):
        assert answers(model, prompts[-1:]) == expected[-1:]


def test_streamed_from_another_thread(model, prompts, expected, processor):
    streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    options = {"max_new_tokens": 12, "do_sample": False, "streamer": streamer}
    thread = threading.Thread(target=model.generate, kwargs=moved(prompts[0]) | options)
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text == processor.decode(expected[0][0], skip_special_tokens=True)


def test_several_threads_at_once(model, prompts, expected):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda inputs: new_tokens(model, moved(inputs)), prompts * 2)) == expected * 2


@pytest.fixture
def compiled_anew():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def optimized(model):
    assert optimize_for_inference(model).encoder == "compile"
    return model


@needs_accelerator
@pytest.mark.usefixtures("compiled_anew")
def test_the_optimized_model_answers_the_same(model, prompts, expected):
    chosen = [0, -1, 1, 0, -1]
    assert answers(optimized(model), [prompts[index] for index in chosen]) == [expected[index] for index in chosen]


@needs_accelerator
@pytest.mark.usefixtures("compiled_anew")
def test_the_optimized_model_answers_in_several_threads(model, prompts, expected):
    optimized(model)
    assert answers(model, prompts[:1]) == expected[:1]
    with ThreadPoolExecutor(2) as pool:
        answered = list(pool.map(lambda inputs: new_tokens(model, moved(inputs)), prompts[:4]))
    assert answered == expected[:4]


@torch.no_grad()
@needs_accelerator
@pytest.mark.usefixtures("compiled_anew")
def test_the_optimized_encoder_keeps_what_it_gave_before(model, prompts):
    tower = model.model.vision_tower
    first, second = (inputs["pixel_values"].to(DEVICE) for inputs in prompts[:2])
    plain = [tower(pixels).last_hidden_state.clone() for pixels in (first, second)]
    optimized(tower)
    tower(first)
    outputs = [tower(pixels).last_hidden_state for pixels in (first, second)]
    assert_close_to_largest(outputs[0], plain[0])
    assert_close_to_largest(outputs[1], plain[1])


@torch.no_grad()
@needs_cuda
@pytest.mark.usefixtures("compiled_anew")
def test_an_encoder_compiled_with_cuda_graphs_by_hand(model, prompts):
    tower = model.model.vision_tower
    batches = [inputs["pixel_values"].to(DEVICE) for inputs in (prompts[0], prompts[-1], prompts[1])]
    plain = [tower(pixels).last_hidden_state.clone() for pixels in batches]
    compiled = torch.compile(tower, mode="reduce-overhead", fullgraph=True)
    for _ in range(3):  # warm-up, capture, replay
        for pixels, features in zip(batches, plain):
            torch.compiler.cudagraph_mark_step_begin()
            assert_close_to_largest(compiled(pixels).last_hidden_state, features)


@needs_accelerator
def test_spread_over_the_device_and_what_it_has_no_room_for(prompts, expected):
    pytest.importorskip("accelerate.utils", reason="device_map needs accelerate")
    room: dict[int | str, str] = {0: "4MB", "cpu": "1GiB"}
    model = AutoModelForVision2Seq.from_pretrained(BUNDLED, device_map="auto", max_memory=room).eval()
    places = {str(place) for place in model.hf_device_map.values()}
    assert len(places) > 1, places
    assert answers(model, prompts[-1:]) == expected[-1:]


@needs_accelerator
def test_loaded_onto_the_device(prompts, expected):
    pytest.importorskip("accelerate.utils", reason="device_map needs accelerate")
    model = AutoModelForVision2Seq.from_pretrained(BUNDLED, device_map=DEVICE.type).eval()
    assert {parameter.device.type for parameter in model.parameters()} == {DEVICE.type}
    assert answers(model, prompts[-1:]) == expected[-1:]
