"""The benchmark of the time to first token: what it runs, its arithmetic and errors. No test looks at how long."""

import json
import math
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from rich.console import Console

from tiny_models import tiny_config, tiny_model, write_tiny_checkpoint
from transformers_fastvlm.benchmark import records, report, ttft, vlm_subjects
from transformers_fastvlm.benchmark.configurations import TtftBenchmarkConfig
from transformers_fastvlm.benchmark.machine import Machine
from transformers_fastvlm.benchmark.profiling import Profile, Share
from transformers_fastvlm.benchmark.synthetic import write_photograph
from transformers_fastvlm.benchmark.ttft import Stages, TtftBenchmark, TtftPoint
from transformers_fastvlm.benchmark.vlm_subjects import OUR_VLM, VlmSubject, random_vlm
from transformers_fastvlm.extras import MissingLibraryError

MACHINE = Machine("A processor", ("avx2",), "cpu", 2, {"torch": "2.0"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


def quick(folder: str, **changes) -> TtftBenchmarkConfig:
    values = {"resolutions": (128,), "dtype": "float32", "model": folder, "repetitions": 3, "warmup": 0}
    return TtftBenchmarkConfig(**(values | {"new_tokens": 4} | changes))


@pytest.fixture
def here(monkeypatch):
    """Models are timed in this process, which spares the tests the start of others."""

    @contextmanager
    def in_this_process(make, *arguments):
        made = make(*arguments)
        yield SimpleNamespace(call=lambda method, *arguments: getattr(made, method)(*arguments))

    monkeypatch.setattr(ttft, "OwnProcess", in_this_process)


def small_config(decoder: str):
    return tiny_config(max_position_embeddings=512)


# Two that need nothing installed: one of any resolution, one of a single one.
TWIN = VlmSubject("twin", partial(random_vlm, small_config), OUR_VLM.processor)
FIXED = replace(TWIN, name="fixed", resolution=192)


def test_every_stage_of_every_model_is_seen(folder):
    messages = []
    benchmark = ttft.run_ttft_benchmark(quick(folder, resolutions=(64, 128), peers=(TWIN, FIXED)), messages.append)
    found = [(point.name, point.resolution, point.visual_tokens, len(point.runs)) for point in benchmark.points]
    assert found == [
        ("ours", 64, 1, 3),
        ("twin", 64, 1, 3),
        ("ours", 128, 4, 3),
        ("twin", 128, 4, 3),
        ("fixed", 192, 9, 3),
    ]
    for point in benchmark.points:
        for run in point.runs:
            assert all(value > 0 for value in vars(run).values())
            assert run.first_token == sum(value for name, value in vars(run).items() if name != "decode")
    compared = [(row.peer.name, row.peer.resolution, row.ours.resolution) for row in benchmark.ratios()]
    assert compared == [("twin", 64, 64), ("twin", 128, 128), ("fixed", 192, 128)]
    assert len(messages) == 6
    assert benchmark.profile.flop > 0


def test_the_model_runs_as_asked_and_is_left_as_it_was(tmp_path):
    model = tiny_model(max_position_embeddings=512)
    vlm = vlm_subjects.Vlm(model, OUR_VLM.processor(128), 128)
    path = write_photograph(tmp_path, 90, 60)
    prompt = vlm.prompt([path, path], text_tokens=7)
    assert prompt.shape == (2, 7 + 4)
    assert (prompt == model.config.image_token_id).sum(1).tolist() == [4, 4]
    calls = []
    handle = model.model.language_model.register_forward_hook(lambda *_: calls.append(1))
    ttft.run_once(vlm, [path, path], prompt, new_tokens=5)
    handle.remove()
    assert len(calls) == 5
    for module in (model.model.vision_tower, model.model.multi_modal_projector):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_ours_is_timed_again_after_optimizing(here, folder):
    pytest.importorskip("openvino", reason="OpenVINO comes with the `inference` extra")
    benchmark = ttft.run_ttft_benchmark(quick(folder, ways=("ours-openvino",)))
    assert [point.name for point in benchmark.points] == ["ours", "ours-openvino"]
    (row,) = benchmark.ratios()
    assert (row.peer.name, row.ours.name) == ("ours-openvino", "ours")


def test_one_new_token_has_no_decode(here, folder):
    (point,) = ttft.run_ttft_benchmark(quick(folder, new_tokens=1, repetitions=1)).points
    assert math.isnan(point.median("decode"))


def test_slow_models_run_once(here, folder):
    (point,) = ttft.run_ttft_benchmark(quick(folder, budget=0)).points
    assert len(point.runs) == 1
    assert point.timing.quartiles == (point.median(), point.median())


def test_2048_is_tiled():
    pixels = OUR_VLM.processor(2048)([Image.new("RGB", (300, 200))])["pixel_values"]
    assert pixels.shape == (5, 3, 1024, 1024)


def test_the_photograph_is_always_the_same_jpeg(tmp_path):
    first = write_photograph(tmp_path, 300, 200)
    content = first.read_bytes()
    assert write_photograph(tmp_path, 300, 200).read_bytes() == content
    with Image.open(first) as image:
        assert (image.format, image.size) == ("JPEG", (300, 200))


def test_others_are_left_out_of_the_resolution_that_ours_tiles(here, folder, monkeypatch):
    seen = []

    def measured(models, resolution, config):
        seen.append((resolution, list(models)))
        return []

    monkeypatch.setattr(ttft, "measure_in_turn", measured)
    ttft.run_ttft_benchmark(quick(folder, resolutions=(2048, 128), peers=(TWIN, FIXED)))
    assert seen == [(2048, ["ours"]), (128, ["ours", "twin"]), (192, ["fixed"])]


@pytest.mark.parametrize(("decoder", "millions"), [("0.5B", 494), ("1.5B", 1544), ("7B", 7070)])
def test_decoders_are_as_large_as_their_names(decoder, millions):
    with torch.device("meta"):
        model = OUR_VLM.build(TtftBenchmarkConfig(decoder=decoder, dtype="float32"))
    count = sum(parameter.numel() for parameter in model.model.language_model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


def made_up_benchmark() -> TtftBenchmark:
    peers = (replace(TWIN, name="upstream"), replace(FIXED, name="llava-onevision"))
    config = TtftBenchmarkConfig(resolutions=(1024,), peers=peers, batch_size=2)
    ours = TtftPoint("ours", 1024, 256, (Stages(0.01, 0.5, 0.02, 0.25, 0.02, 0.1),) * 3, 3 * 2**20)
    upstream = TtftPoint("upstream", 1024, 256, (Stages(0.05, 1.0, 0.03, 0.5, 0.02, float("nan")),) * 3, None)
    other = TtftPoint("llava-onevision", 1152, 7371, (Stages(0.0, 4.0, 0.0, 12.0, 0.0, 0.1),), None)
    return TtftBenchmark(MACHINE, config, (ours, upstream, other), Profile((Share("mm", 0.5),), 10, 5.0))


def test_table():
    console = Console(width=160)
    with console.capture() as capture:
        report.print_record(records.ttft_record(made_up_benchmark()), report.ttft_report, console)
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in capture.get().splitlines()]
    assert ["ours", "1024²", "256", "10.0", "500.0", "20.0", "250.0", "20.0", "800.0 ± 0.0", "", "20.0", "3"] in lines
    upstream = "upstream | 1024² | 256 | 50.0 | 1000.0 | 30.0 | 500.0 | 20.0 | 1600.0 ± 0.0 | 2.00 | – | –"
    assert upstream.split(" | ") in lines
    assert any("20.00" in line and "llava-onevision" in line for line in lines)


def test_json_and_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib (the `bench` extra)")
    from transformers_fastvlm.benchmark.plots import draw_ttft

    record = records.ttft_record(made_up_benchmark(), "fastvlm bench ttft")
    records.write_record(record, tmp_path / "ttft.json")
    record = json.loads((tmp_path / "ttft.json").read_text())
    results = record["results"]
    assert [ratio["ratio"] for ratio in results["ratios"]] == pytest.approx([2.0, 20.0])
    assert results["points"][1]["tokens_per_second"] is None
    assert len(results["points"][0]["runs"]) == 3
    pictures = draw_ttft(record, tmp_path)
    assert [path.name for path in pictures] == ["ttft-stages.png", "ttft-ratios.png"]
    for path in pictures:
        with Image.open(path) as image:
            assert len(image.convert("RGB").getcolors(2**20)) > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": (100,)}, r"multiples of 64, got \[100\]"),
        ({"decoder": "3B"}, "Unknown decoder '3B'; known: 0.5B"),
        ({"dtype": "int8"}, "Unknown dtype 'int8'"),
        ({"ways": ("magic",)}, "Unknown way 'magic'; known: ours-openvino"),
        ({"device": "abacus"}, "Device 'abacus' cannot be used"),
        ({"new_tokens": 0}, "at least 1"),
        ({"image": Path("nowhere.jpg")}, "no image nowhere.jpg"),
    ],
)
def test_impossible_configurations_are_errors(changes, message, folder):
    with pytest.raises(ValueError, match=message):
        quick(folder, **changes)


def test_a_missing_library_names_the_extra(folder):
    absent = replace(TWIN, requires=("nothing",), extra="bench")
    with pytest.raises(MissingLibraryError, match=r"nothing.*pip install 'transformers-fastvlm\[bench\]'"):
        quick(folder, peers=(absent,))
