"""The benchmark of the time to first token: what it runs, its arithmetic and errors. No test looks at how long."""

import json
import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from tiny_models import tiny_config, tiny_model, write_tiny_checkpoint
from transformers_fastvlm.benchmark import report, ttft, vlms
from transformers_fastvlm.benchmark.machine import Machine
from transformers_fastvlm.benchmark.operations import Profile, Share
from transformers_fastvlm.benchmark.paper import paper_ratio
from transformers_fastvlm.benchmark.settings import MissingPeerError
from transformers_fastvlm.benchmark.ttft import Stages, TtftBenchmark, TtftBenchmarkConfig, TtftPoint
from transformers_fastvlm.benchmark.vlms import OURS_KIND, VLM_PEERS, VlmKind
from transformers_fastvlm.cli import app

MACHINE = Machine("A processor", ("avx2",), "cpu", 2, {"torch": "2.0"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")))


def quick(folder: str, **changes) -> TtftBenchmarkConfig:
    values = {"resolutions": (128,), "dtype": "float32", "peers": (), "model": folder, "repetitions": 3, "warmup": 0}
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


@pytest.fixture
def peers(monkeypatch):
    """Two that need nothing installed: one of any resolution, one of a single one."""
    kind = VlmKind(small_config, OURS_KIND.processor)
    table = {"twin": kind, "fixed": VlmKind(kind.config, kind.processor, 192)}
    for name, peer in table.items():
        monkeypatch.setitem(VLM_PEERS, name, peer)
    return tuple(table)


def test_every_stage_of_every_model_is_seen(folder, peers):
    messages = []
    benchmark = ttft.run_ttft_benchmark(quick(folder, resolutions=(64, 128), peers=peers), messages.append)
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
    vlm = vlms.Vlm(model, OURS_KIND.processor(128), 128)
    path = vlms.write_photograph(tmp_path, 90, 60)
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
    pixels = OURS_KIND.processor(2048)([Image.new("RGB", (300, 200))])["pixel_values"]
    assert pixels.shape == (5, 3, 1024, 1024)


def test_the_photograph_is_always_the_same_jpeg(tmp_path):
    first = vlms.write_photograph(tmp_path, 300, 200)
    content = first.read_bytes()
    assert vlms.write_photograph(tmp_path, 300, 200).read_bytes() == content
    with Image.open(first) as image:
        assert (image.format, image.size) == ("JPEG", (300, 200))


@pytest.mark.parametrize(("name", "tower_millions"), [("upstream", 125), ("llava-onevision", 400), ("llava-1.5", 304)])
def test_peers_are_what_they_are_called(name, tower_millions):
    pytest.importorskip("timm", reason="upstream's tower needs timm; the `bench` extra installs it")
    with torch.device("meta"):
        model = VLM_PEERS[name].build("0.5B")
    count = sum(parameter.numel() for parameter in model.model.vision_tower.parameters())
    assert count / 1e6 == pytest.approx(tower_millions, rel=0.05)
    decoder = sum(parameter.numel() for parameter in model.model.language_model.parameters())
    assert decoder == pytest.approx(494e6, rel=0.01)


@pytest.mark.parametrize(("decoder", "millions"), [("0.5B", 494), ("1.5B", 1544), ("7B", 7070)])
def test_decoders_are_as_large_as_their_names(decoder, millions):
    with torch.device("meta"):
        model = OURS_KIND.build(decoder)
    count = sum(parameter.numel() for parameter in model.model.language_model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_papers_headline():
    assert paper_ratio("llava-onevision", "0.5B") == pytest.approx(85, abs=0.5)
    assert paper_ratio("upstream", "0.5B") is None


def made_up_benchmark() -> TtftBenchmark:
    config = TtftBenchmarkConfig(resolutions=(1024,), peers=(), batch_size=2)
    ours = TtftPoint("ours", 1024, 256, (Stages(0.01, 0.5, 0.02, 0.25, 0.02, 0.1),) * 3, 3 * 2**20)
    upstream = TtftPoint("upstream", 1024, 256, (Stages(0.05, 1.0, 0.03, 0.5, 0.02, float("nan")),) * 3, None)
    other = TtftPoint("llava-onevision", 1152, 7371, (Stages(0.0, 4.0, 0.0, 12.0, 0.0, 0.1),), None)
    return TtftBenchmark(MACHINE, config, (ours, upstream, other), Profile((Share("mm", 0.5),), 10, 5.0))


def test_table(capsys):
    console = Console(width=160)
    with console.capture() as capture:
        report.print_ttft_benchmark(made_up_benchmark(), console)
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in capture.get().splitlines()]
    assert ["ours", "1024²", "256", "10.0", "500.0", "20.0", "250.0", "20.0", "800.0 ± 0.0", "", "20.0", "3"] in lines
    upstream = "upstream | 1024² | 256 | 50.0 | 1000.0 | 30.0 | 500.0 | 20.0 | 1600.0 ± 0.0 | 2.00 | – | –"
    assert upstream.split(" | ") in lines
    assert any("20.00" in line and "llava-onevision" in line for line in lines)


def test_json_and_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib (the `bench` extra)")
    from transformers_fastvlm.benchmark.plots import draw_ttft

    benchmark = made_up_benchmark()
    report.write_json(report.ttft_benchmark_dict(benchmark), tmp_path / "ttft.json")
    result = json.loads((tmp_path / "ttft.json").read_text())
    assert [ratio["ratio"] for ratio in result["ratios"]] == pytest.approx([2.0, 20.0])
    assert result["ratios"][1]["paper_ratio"] == pytest.approx(84.7, abs=0.1)
    assert result["points"][1]["tokens_per_second"] is None
    assert len(result["points"][0]["runs"]) == 3
    again = report.ttft_benchmark_of(result)
    assert report.ttft_benchmark_dict(again)["points"] == result["points"]
    assert again.machine == benchmark.machine
    pictures = draw_ttft(benchmark, tmp_path)
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
        ({"peers": ("gpt",)}, "Unknown peer 'gpt'; known: upstream"),
        ({"new_tokens": 0}, "at least 1"),
        ({"image": ttft.Path("nowhere.jpg")}, "no image nowhere.jpg"),
    ],
)
def test_impossible_configurations_are_errors(changes, message, folder):
    with pytest.raises(ValueError, match=message):
        quick(folder, **changes)


def test_a_missing_peer_names_the_extras(monkeypatch, folder):
    monkeypatch.setitem(VLM_PEERS, "upstream", VlmKind(lambda decoder: None, OURS_KIND.processor, None, ("nothing",)))
    message = r"needs nothing, which is not installed: pip install 'transformers-fastvlm\[vision,bench\]'"
    with pytest.raises(MissingPeerError, match=message):
        quick(folder, peers=("upstream",))


def test_command(folder, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib (the `bench` extra)")
    runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
    options = ["--model", folder, "--resolutions", "64,128", "--peers", "none", "--repetitions", "1", "--warmup", "0"]
    options += ["--dtype", "float32", "--json", str(tmp_path / "result.json")]
    options += ["--pictures", str(tmp_path / "pictures")]
    result = runner.invoke(app, ["bench", "ttft", *options])
    assert result.exit_code == 0, result.output
    assert f"Ours: {folder}" in result.stdout.replace("\n", "")
    assert (tmp_path / "pictures" / "ttft-stages.png").is_file()
    assert len(json.loads((tmp_path / "result.json").read_text())["points"]) == 2
    result = runner.invoke(app, ["bench", "ttft", "--resolutions", "100", "--peers", "none"])
    assert result.exit_code == 2
    assert "multiples of 64" in result.output
