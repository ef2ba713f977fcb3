"""The encoder benchmark: its arithmetic, structure and errors. No test looks at how long anything took."""

import json
from functools import partial

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from tiny_models import tiny_vision_config, write_tiny_checkpoint
from transformers_fastvlm import FastViTHDModel
from transformers_fastvlm.benchmark import profiling, records, report, timing
from transformers_fastvlm.benchmark.configurations import EncoderBenchmarkConfig
from transformers_fastvlm.benchmark.encoder_latency import (
    EncoderBenchmark,
    EncoderPoint,
    build_ours,
    relative_difference,
    run_encoder_benchmark,
)
from transformers_fastvlm.benchmark.encoder_subjects import ENCODER_WAYS, EncoderSubject
from transformers_fastvlm.benchmark.machine import Machine, describe_machine
from transformers_fastvlm.benchmark.profiling import Profile, Share, profile_call
from transformers_fastvlm.benchmark.synthetic import random_model, random_pixels
from transformers_fastvlm.benchmark.timing import Timing, interleaved_latencies, pairwise_ratio
from transformers_fastvlm.extras import MissingLibraryError
from transformers_fastvlm.inference.linear_layers import int8_is_fast

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    """In place of 17 billion operations, which take seconds in bfloat16 where the processor does not have it."""
    monkeypatch.setattr(profiling, "_matrix_speed", partial(profiling._matrix_speed, side=256))


def once_more(ours):
    copy = AutoModel.from_config(ours.config, dtype=ours.dtype).eval()
    copy.load_state_dict(ours.state_dict())
    return copy


# Ours once more, which needs nothing installed.
TWIN = EncoderSubject("twin", once_more, same_weights=True)


def tiny_benchmark_config(**changes) -> EncoderBenchmarkConfig:
    values = {
        "resolutions": (64, 128),
        "dtypes": ("float32", "bfloat16"),
        "repetitions": 3,
        "warmup": 1,
        "encoder": tiny_vision_config(),
    }
    return EncoderBenchmarkConfig(**(values | changes))


def made_up_benchmark() -> EncoderBenchmark:
    timings = {"ours": Timing((0.1, 0.2, 0.4), 3 * 2**20), "twin": Timing((0.2, 0.2, 0.2))}
    return EncoderBenchmark(
        machine=Machine("A processor", ("avx2",), "cpu", 2, {"torch": "2.0"}),
        config=tiny_benchmark_config(resolutions=(64,), dtypes=("float32",), batch_size=4, peers=(TWIN,)),
        points=[EncoderPoint(64, "float32", 4, timings)],
        differences={"float32": {"twin": 1.5e-6}},
        profiles={"float32": Profile((Share("convolution", 0.75), Share("gelu", 0.125)), int(3e9), 2e9)},
    )


def test_ratio_is_the_median_of_pairs():
    # Medians alone, 4 / 2, would let the drift between the pairs in.
    assert pairwise_ratio(peer=(3, 4, 10), ours=(1, 4, 2)) == 3
    with pytest.raises(ValueError, match="2 and 1"):
        pairwise_ratio((1, 2), (1,))


def test_median_and_quartiles():
    seconds = Timing((5.0, 1.0, 2.0, 4.0, 3.0))
    assert (seconds.median, seconds.quartiles) == (3.0, (2.0, 4.0))
    assert Timing((7.0,)).quartiles == (7.0, 7.0)
    with pytest.raises(ValueError, match="at least one"):
        Timing(())


def test_calls_take_turns_and_warm_up_is_not_counted():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    latencies = interleaved_latencies(calls, repetitions=2, warmup=1, device=CPU)
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in latencies.items()} == {"a": 2, "b": 2}


def test_peak_memory_sees_what_a_call_frees_again():
    peak = timing.call_peak_memory(lambda: torch.ones(64 * 2**20, dtype=torch.uint8), CPU)
    if peak is None:
        pytest.skip("this platform does not tell a process's peak memory")
    assert 60 * 2**20 < peak < 100 * 2**20
    assert timing.call_peak_memory(lambda: None, CPU) < 4 * 2**20


def test_thread_count_is_put_back():
    before = torch.get_num_threads()
    with timing.thread_count(before + 1):
        assert torch.get_num_threads() == before + 1
        assert describe_machine(CPU).threads == before + 1
    assert torch.get_num_threads() == before


def test_every_dtype_and_resolution_is_timed():
    messages = []
    benchmark = run_encoder_benchmark(tiny_benchmark_config(peers=(TWIN,), batch_size=2), messages.append)
    assert [(point.dtype, point.resolution) for point in benchmark.points] == [
        ("float32", 64),
        ("float32", 128),
        ("bfloat16", 64),
        ("bfloat16", 128),
    ]
    for point in benchmark.points:
        assert list(point.timings) == ["ours", "twin"]
        assert all(len(each.seconds) == 3 for each in point.timings.values())
        assert point.images_per_second() == 2 / point.timings["ours"].median
    assert benchmark.differences == {"float32": {"twin": 0.0}, "bfloat16": {"twin": 0.0}}
    assert len(messages) == 8
    assert list(benchmark.profiles) == ["float32", "bfloat16"]
    assert all("convolution" in profile.in_words for profile in benchmark.profiles.values())


def another_model(ours):
    other = random_model(ours.config, ours.dtype)
    other.final_conv.conv.weight.data.mul_(2)
    return other


def test_another_answer_shows_as_a_difference():
    peers = (EncoderSubject("twin", another_model, same_weights=True), EncoderSubject("tower", another_model))
    config = tiny_benchmark_config(resolutions=(64,), dtypes=("float32",), repetitions=1, peers=peers)
    (differences,) = run_encoder_benchmark(config).differences.values()
    assert list(differences) == ["twin"]
    assert differences["twin"] > 0.1


def test_ours_may_be_the_encoder_of_a_checkpoint(tmp_path):
    folder = write_tiny_checkpoint(tmp_path)
    ours = build_ours(EncoderBenchmarkConfig(str(folder), resolutions=(64,)), torch.float32)
    expected = FastViTHDModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in ours.state_dict().items())
    with pytest.raises(ValueError, match=r"multiples of 64, got \[100\]"):
        build_ours(EncoderBenchmarkConfig(str(folder), resolutions=(100,)), torch.float32)


@pytest.mark.parametrize("name", ENCODER_WAYS)
def test_other_runtimes_run_our_weights(name):
    way = ENCODER_WAYS[name]
    for module in way.requires:
        pytest.importorskip(module, reason=f"{name} comes with the `{way.extra}` extra")
    if name == "ours-int8" and not int8_is_fast():
        pytest.skip("int8 is for CPUs with VNNI instructions")
    ours = random_model(tiny_vision_config(layer_scale_init_value=0.01), torch.float32)
    images = random_pixels(2, 128, torch.float32, CPU)
    with torch.no_grad():
        features = way.build(ours)(pixel_values=images).last_hidden_state
        expected = ours(images).last_hidden_state
    assert relative_difference(features, expected) < (0.3 if name == "ours-int8" else 1e-4)


def test_an_encoder_is_left_out_where_it_does_not_run():
    peers = (EncoderSubject("twin", once_more, dtypes=(torch.float32,)),)
    benchmark = run_encoder_benchmark(tiny_benchmark_config(resolutions=(64,), peers=peers, repetitions=1))
    assert [list(point.timings) for point in benchmark.points] == [["ours", "twin"], ["ours"]]
    table, _ = report.encoder_report(records.encoder_record(benchmark))
    assert table.row_count == 3


@torch.no_grad()
def test_a_profile_has_shares_of_the_whole_and_counts_products():
    profile = profile_call(lambda: torch.rand(300, 200) @ torch.rand(200, 100), CPU, torch.float32)
    shares = [each.share for each in profile.shares]
    assert "mm" in {each.name for each in profile.shares}
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) < 1 + 1e-9
    assert profile.flop == 2 * 300 * 200 * 100
    assert profile.flop_per_second > 1e9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fastvithd_is_as_much_arithmetic_whatever_computes_it(dtype):
    encoder = random_model(tiny_benchmark_config().encoder, dtype)
    images = torch.rand(1, 3, 128, 128, dtype=dtype)
    with torch.no_grad():
        counted = profile_call(lambda: encoder(images), CPU, dtype).flop
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        encoder.to("meta")(images.to("meta"))
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)  # strips of the stem overlap


def test_the_default_encoder_is_the_whole_fastvithd_in_its_inference_form():
    config = EncoderBenchmarkConfig().encoder
    with torch.device("meta"):
        model = FastViTHDModel(config)
    assert config.reparameterized
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(125.1e6, rel=0.005)


def test_our_weights_are_the_same_at_every_call_and_leave_the_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second = (random_model(tiny_vision_config(), torch.float32).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": (100,)}, r"multiples of 64, got \[100\]"),
        ({"resolutions": (0,)}, "multiples of 64"),
        ({"resolutions": ()}, "multiples of 64"),
        ({"dtypes": ("int8",)}, "Unknown dtype 'int8'; known: float32"),
        ({"dtypes": ()}, "at least one dtype"),
        ({"ways": ("onnx",)}, "Unknown way 'onnx'; known: ours-openvino"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"repetitions": 0}, "repetitions"),
        ({"warmup": -1}, "warmup"),
        ({"threads": 0}, "threads"),
        ({"device": "abacus"}, "Device 'abacus' cannot be used"),
    ],
)
def test_impossible_configurations_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_benchmark_config(**changes)


def test_a_missing_library_names_the_extra():
    absent = EncoderSubject("twin", once_more, requires=("no_such_module",), extra="bench")
    with pytest.raises(MissingLibraryError, match=r"pip install 'transformers-fastvlm\[bench\]'"):
        tiny_benchmark_config(peers=(absent,))


def test_table_has_the_medians_the_ratio_and_the_memory():
    console = Console(width=119)
    with console.capture() as capture:
        report.print_record(records.encoder_record(made_up_benchmark()), report.encoder_report, console)
    text = capture.get()
    rows = [line for line in text.splitlines() if line.startswith("|") and "64²" in line]
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    assert cells == [
        ["64²", "float32", "ours", "200.0 ± 75.0", "", "20.00", "3"],
        ["64²", "float32", "twin", "200.0 ± 0.0", "1.00", "20.00", "–"],
    ]
    assert "A processor (avx2), 2 threads, device cpu" in text
    assert "1.5e-06" in text
    assert "Top operations of ours, 64², float32: convolution 75%, gelu 12%; 3 GFLOP, 1.50 s at" in text.replace(
        "\n", " "
    )


def test_json_has_every_measurement(tmp_path):
    records.write_record(records.encoder_record(made_up_benchmark(), "fastvlm bench"), tmp_path / "result.json")
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["benchmark"] == "encoder"
    assert record["command"] == "fastvlm bench"
    assert record["machine"]["cpu_flags"] == ["avx2"]
    results = record["results"]
    assert results["config"]["batch_size"] == 4
    assert results["config"]["peers"] == ["twin"]
    assert results["config"]["encoder"]["depths"] == [1, 1, 2, 1, 1]
    assert results["relative_differences"] == {"float32": {"twin": 1.5e-6}}
    (point,) = results["points"]
    assert point["timings"]["ours"] == {
        "median_s": 0.2,
        "spread_s": pytest.approx(0.075),
        "quartiles_s": pytest.approx([0.15, 0.3]),
        "seconds": [0.1, 0.2, 0.4],
        "peak_memory_bytes": 3 * 2**20,
    }
    assert point["ratios"] == {"twin": 1.0}
    assert results["profiles"]["float32"]["shares"][0] == {"name": "convolution", "share": 0.75}
    assert point["images_per_second"]["ours"] == pytest.approx(20)


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib (the `bench` extra)")
    from transformers_fastvlm.benchmark.plots import draw_encoders

    (picture,) = draw_encoders(records.encoder_record(made_up_benchmark()), tmp_path)
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(2**20)) > 10


def test_machine_names_what_the_numbers_depend_on():
    machine = describe_machine(CPU, packages=("torch", "no-such-package"))
    assert machine.cpu
    assert machine.device == "cpu"
    assert set(machine.versions) == {"python", "torch"}
