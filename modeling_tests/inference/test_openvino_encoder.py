"""`OpenVinoEncoder`: PyTorch's features whatever the size, thread and form of the pixels, or PyTorch itself."""

import copy
import gc
import itertools
import random
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from conftest import assert_close_to_largest
from running_scripts import ENVIRONMENT, run_command
from tiny_models import tiny_model
from transformers_fastvlm.inference import openvino_encoder, optimize_for_inference
from transformers_fastvlm.inference.linear_layers import int8_is_fast
from transformers_fastvlm.inference.openvino_conversion import FeaturesAlone
from transformers_fastvlm.inference.openvino_encoder import TOLERANCES, OpenVinoEncoder, largest_difference

pytest.importorskip("openvino", reason="OpenVINO comes with the `inference` extra")

STRIDE = 64
GRIDS = list(itertools.product(range(1, 17), repeat=2))
DRAWN_GRIDS = [*random.Random(0).sample(GRIDS, 14), (2, 1), (2, 2), (5, 1), (7, 1), (16, 1), (1, 16)]


def pixels(height: int, width: int, seed: int = 0, count: int = 1) -> torch.Tensor:
    shape = count, 3, height * STRIDE, width * STRIDE
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def tiny_tower(dtype: torch.dtype = torch.float32, **vision):
    return tiny_model(vision=vision).model.vision_tower.to(dtype)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def warnings_of_sizes(monkeypatch) -> list[str]:
    given: list[str] = []
    monkeypatch.setattr(openvino_encoder.logger, "warning", given.append)
    return given


def optimized(tower, cache, **options):
    optimize_for_inference(tower, encoder="openvino", cache_dir=cache, **options)
    return tower


@torch.no_grad()
@pytest.mark.parametrize(
    "grids", [pytest.param(DRAWN_GRIDS, id="drawn"), pytest.param(GRIDS, id="all", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str
)
def test_every_grid_is_right_at_every_call(cache, dtype, grids):
    tower = tiny_tower(dtype, depths=[1, 1, 1, 1, 1])
    runtime = OpenVinoEncoder(tower, cache)
    for grid in grids:
        for seed in (1, 2):
            image = pixels(*grid, seed)
            features = runtime(image)
            assert features is not None, f"left to PyTorch: {grid}"
            difference = largest_difference(features.float(), tower.pytorch_features(image).float())
            assert difference <= TOLERANCES[dtype], f"{grid}: {difference:.2g}"


def wrong_at(monkeypatch, *sides: tuple[int, int], change) -> list[tuple[int, int]]:
    """Make OpenVINO's features of some sizes wrong, and list the sizes of all images that it runs."""
    ran, run = [], openvino_encoder._run

    def changed(request, image):
        ran.append(tuple(image.shape[2:]))
        features = run(request, image)
        return change(features) if ran[-1] in sides else features

    monkeypatch.setattr(openvino_encoder, "_run", changed)
    return ran


def with_last_position_times(factor: float):
    def change(features: torch.Tensor) -> torch.Tensor:
        features[..., -1, -1] *= factor
        return features

    return change


@torch.no_grad()
@pytest.mark.parametrize(
    ("dtype", "factor"), [(torch.float32, 1.01), (torch.bfloat16, 1.5), (torch.bfloat16, float("nan"))]
)
def test_a_size_that_openvino_gets_wrong_stays_with_pytorch(cache, monkeypatch, warnings_of_sizes, dtype, factor):
    tower = tiny_tower(dtype)
    wrong, right = pixels(2, 3), pixels(2, 2)
    expected = tower(wrong).last_hidden_state
    ran = wrong_at(monkeypatch, (128, 192), change=with_last_position_times(factor))
    optimized(tower, cache)
    for _ in range(2):
        assert torch.equal(tower(wrong).last_hidden_state, expected)
        assert torch.equal(tower(wrong.expand(3, -1, -1, -1)).last_hidden_state[1:2], expected)
        tower(right)
    assert len(warnings_of_sizes) == 1 and "128x192 pixels" in warnings_of_sizes[0]
    assert ran.count((128, 192)) == 2  # the one of NaN and the example
    assert list(tower.runtime.sizes) == [(128, 128)]


@torch.no_grad()
def test_memory_that_is_never_written_shows_though_the_example_comes_out_right(cache, monkeypatch, warnings_of_sizes):
    """What stood in the memory before is the features' own here, but for those of NaN."""
    tower = tiny_tower()
    stale = []

    def keep_last_position(features: torch.Tensor) -> torch.Tensor:
        stale.append(features[..., -1, -1].clone())
        features[..., -1, -1] = stale[0]
        return features

    wrong_at(monkeypatch, (128, 128), change=keep_last_position)
    optimized(tower, cache)
    tower(pixels(2, 2))
    assert len(warnings_of_sizes) == 1


@torch.no_grad()
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
def test_threads_get_their_own_images(cache, kind):
    options = {}
    if kind == "int8":
        pytest.importorskip("nncf", reason="calibration needs NNCF (the `inference` extra)")
        if not int8_is_fast():
            pytest.skip("int8 is for CPUs with VNNI instructions")
        options = {"int8": ["encoder"], "calibration_pixels": pixels(2, 2, count=4)}
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    alone = optimized(tiny_tower(dtype), cache, **options)
    sizes = [(1, 1), (2, 2), (1, 2)]
    images = [[pixels(*sizes[call % 3], seed=100 * thread + call) for call in range(50)] for thread in range(8)]
    expected = [[alone(image).last_hidden_state for image in of_thread] for of_thread in images]
    shared = optimized(tiny_tower(dtype), cache, **options)

    def encode(of_thread: list[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [shared(image).last_hidden_state for image in of_thread]

    with ThreadPoolExecutor(8) as pool:
        for features, right in zip(pool.map(encode, images), expected):
            assert all(torch.equal(*pair) for pair in zip(features, right))


@torch.no_grad()
def test_threads_that_meet_a_new_size_compile_it_once(cache, monkeypatch):
    tower = optimized(tiny_tower(), cache)
    compiled, compile_size = [], tower.runtime._compile
    monkeypatch.setattr(tower.runtime, "_compile", lambda sides: compiled.append(sides) or compile_size(sides))
    image = pixels(2, 2)
    with ThreadPoolExecutor(8) as pool:
        features = list(pool.map(tower.runtime, [image] * 8))
    assert compiled == [(128, 128)]
    assert all(torch.equal(each, features[0]) for each in features)


@torch.no_grad()
def test_sizes_make_room_for_others_while_threads_use_them(cache):
    tower = optimized(tiny_tower(), cache, compiled_sizes=1)
    sizes = [(1, 1), (1, 2), (2, 1)]
    expected = [tower(pixels(*size)).last_hidden_state for size in sizes]
    with ThreadPoolExecutor(4) as pool:
        features = list(pool.map(tower.runtime, [pixels(*size) for size in sizes * 4]))
    assert all(torch.equal(*pair) for pair in zip(features, expected * 4))
    assert len(tower.runtime.sizes) == 1


@torch.no_grad()
def test_only_the_latest_sizes_stay_compiled(cache, monkeypatch):
    tower = optimized(tiny_tower(), cache, compiled_sizes=2)
    requests, compile_size = [], tower.runtime._compile

    def remember(sides):
        request = compile_size(sides)
        requests.append((sides, weakref.ref(request)))
        return request

    monkeypatch.setattr(tower.runtime, "_compile", remember)
    for width in (1, 2, 1, 3, 1, 4):
        tower(pixels(1, width))
    gc.collect()
    assert [sides[1] // STRIDE for sides, _ in requests] == [1, 2, 3, 4]
    assert [sides[1] // STRIDE for sides, request in requests if request() is not None] == [1, 4]
    tower(pixels(1, 2))  # known to be right: compiled again, and not compared
    assert len(requests) == 5


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pixels_of_every_form_are_taken_as_by_the_plain_encoder(cache, dtype):
    plain, tower = tiny_tower(dtype), optimized(tiny_tower(dtype), cache)
    image = pixels(1, 2, count=2)
    with torch.inference_mode():
        inference_image = image.clone()
    forms = {
        "no images": image[:0],
        "not contiguous": image.transpose(2, 3).contiguous().transpose(2, 3),
        "expanded": image[:1].expand(3, -1, -1, -1),
        "channels last": image.contiguous(memory_format=torch.channels_last),
        "requires grad": image.clone().requires_grad_(),
        "inference": inference_image,
        "bfloat16": image.bfloat16(),
        "float64": image.double(),
        "uint8": (image * 255).to(torch.uint8),
        "bool": image > 0.5,
        "NaN": image / 0 * 0,
        "no pixels": image[..., :0],
        "three dimensions": image[0],
        "meta": image.to("meta"),
        "not of the stride": image[..., 1:],
    }
    for name, form in forms.items():
        expected, features = outcome(plain, form), outcome(tower, form)
        if isinstance(expected, Exception):
            assert type(features) is type(expected) and str(features) == str(expected), name
            continue
        assert (features.dtype, features.shape) == (expected.dtype, expected.shape), name
        if features.numel():
            tolerance = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}[dtype]
            assert_close_to_largest(features.float(), expected.float(), tolerance)


def outcome(tower, image: torch.Tensor) -> torch.Tensor | Exception:
    try:
        return tower(image).last_hidden_state
    except Exception as error:
        return error


@torch.no_grad()
def test_hooks_inside_the_encoder_fire_and_tracers_see_pytorch(cache):
    tower = optimized(tiny_tower(), cache)
    image = pixels(1, 2)
    expected = tower(image).last_hidden_state
    seen = []
    handle = tower.stages[-1].register_forward_hook(lambda *arguments: seen.append(1))
    assert_close_to_largest(tower(image).last_hidden_state, expected)
    assert len(seen) == 1
    handle.remove()
    traced = torch.jit.trace(FeaturesAlone(tower), image, check_trace=False)
    assert_close_to_largest(traced(2 * image), tower(2 * image).last_hidden_state)


@torch.no_grad()
def test_copies_answer_and_notice_changes_of_their_own(cache):
    tower = optimized(tiny_tower(), cache)
    image = pixels(1, 2)
    copied = copy.deepcopy(tower)
    assert torch.equal(copied(image).last_hidden_state, tower(image).last_hidden_state)
    copied.final_conv.conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="has changed"):
        copied(image)
    tower(image)
    tower.final_conv.conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="has changed"):
        copy.deepcopy(tower)(image)


def test_dtypes_that_openvino_has_not_are_refused_or_left_alone(cache):
    tower = tiny_tower(torch.float64)
    assert optimize_for_inference(tower, cache_dir=cache).encoder == "eager"
    with pytest.raises(ValueError, match=r"float32, bfloat16 and float16.*float64"):
        optimized(tower, cache)
    with pytest.raises(ValueError, match="`compiled_sizes` must be at least 1"):
        optimized(tiny_tower(), cache, compiled_sizes=0)


FORGOTTEN_IN_A_THREAD = """
import faulthandler, gc, signal, sys, threading
import torch
from tiny_models import tiny_model
from transformers_fastvlm.inference import optimize_for_inference

faulthandler.enable()  # as notebooks and pytest do: signals get a stack of their own
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
towers = [tiny_model().model.vision_tower]
optimize_for_inference(towers[0], encoder="openvino", cache_dir=sys.argv[1])
assert towers[0].runtime(torch.rand(1, 3, 128, 128)) is not None
thread = threading.Thread(target=lambda: (towers.clear(), gc.collect()))
thread.start()
thread.join()
signal.raise_signal(signal.SIGUSR1)
"""


def test_an_encoder_that_another_thread_forgets_leaves_signals_as_they_are(tmp_path):
    environment = ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    assert "handled" in run_command([sys.executable, "-c", FORGOTTEN_IN_A_THREAD, str(tmp_path)], environment)
