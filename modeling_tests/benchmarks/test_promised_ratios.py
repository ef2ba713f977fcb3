"""The promised ratios: their arithmetic, table and exit code. No test looks at how long anything takes."""

import json

import pytest
from typer.testing import CliRunner

from transformers_fastvlm.benchmark import targets
from transformers_fastvlm.benchmark.encoder import EncoderBenchmark, EncoderBenchmarkConfig, EncoderPoint
from transformers_fastvlm.benchmark.machine import Machine
from transformers_fastvlm.benchmark.operations import Profile
from transformers_fastvlm.benchmark.preprocessing import run_preprocessing_benchmark
from transformers_fastvlm.benchmark.settings import MissingPeerError
from transformers_fastvlm.benchmark.targets import Target, TargetCheck
from transformers_fastvlm.benchmark.timing import Timing
from transformers_fastvlm.benchmark.ttft import Stages, TtftBenchmark, TtftBenchmarkConfig, TtftPoint
from transformers_fastvlm.cli import app

PROFILE = Profile((), 1, 1.0)
MACHINE = Machine("A processor", ("avx2",), "cpu", 2, {"torch": "2.0"})


def encoders(*dtypes: str) -> EncoderBenchmark:
    timings = {"ours": Timing((1.0, 1.0)), "upstream": Timing((2.5, 2.5)), "openvino": Timing((0.5, 0.5))}
    points = [EncoderPoint(1024, dtype, 1, timings) for dtype in dtypes]
    return EncoderBenchmark(MACHINE, EncoderBenchmarkConfig(peers=()), points, {}, {})


def test_encoders_are_compared_with_upstream():
    bfloat16, float32 = targets.encoder_targets(encoders("bfloat16", "float32"))
    assert (bfloat16.as_loaded, bfloat16.optimized, bfloat16.least) == (2.5, 5.0, 2.2)
    assert (float32.least, float32.aim) == (1.5, 2.1)
    assert targets.throughput_target(encoders("bfloat16")).optimized == 5.0


def test_first_tokens_are_compared_with_both_peers():
    def point(name: str, seconds: float, decode: float) -> TtftPoint:
        return TtftPoint(name, 1024, 256, (Stages(0, seconds, 0, 0, 0, decode),) * 2, None)

    points = (
        point("ours", 1.0, 0.04),
        point("upstream", 2.0, 0.04),
        point("ours-openvino", 0.8, 0.02),
        point("ours-int8", 0.5, 0.01),
        point("llava-onevision", 40.0, 0.1),
    )
    slow = (point("ours", 3.0, 0.04), point("llava-onevision", 100.0, 0.2))
    benchmarks = (
        TtftBenchmark(MACHINE, TtftBenchmarkConfig(peers=()), measured, PROFILE) for measured in (points, slow)
    )
    found = targets.first_token_targets(*benchmarks)
    assert [(each.as_loaded, each.optimized) for each in found] == [
        (2, 2.5),
        (40, 50),
        (None, 80),
        (None, 200),
        (1, 2),
    ]


@pytest.mark.parametrize(
    ("as_loaded", "optimized", "verdict"),
    [(1.9, None, "short"), (2.0, None, "reached"), (1.0, 2.5, "aim"), (None, 2.0, "reached")],
)
def test_the_better_way_decides(as_loaded, optimized, verdict):
    assert Target("speed", 2.0, 2.5, as_loaded, optimized).verdict == verdict


@pytest.mark.parametrize(("ratio", "code"), [(2.2, 0), (1.5, 1)])
def test_the_command_says_what_falls_short(monkeypatch, tmp_path, ratio, code):
    check = TargetCheck(MACHINE, (Target("speed of light", 2.0, 3.0, ratio),), (12.0, 2.0))
    monkeypatch.setattr(targets, "check_targets", lambda threads, progress: check)
    arguments = ["bench", "--check", "--threads", "2", "--json", str(tmp_path / "check.json")]
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert "12.0 s with its first image, 2.0 s in later processes" in result.stdout
    assert ("Short of the promise:\nspeed of light" in result.stderr) == bool(code)
    written = json.loads((tmp_path / "check.json").read_text())
    assert written["targets"][0]["as_loaded"] == ratio


def test_a_missing_library_is_named(monkeypatch):
    def missing(threads, progress):
        raise MissingPeerError("The peer 'upstream' needs timm, which is not installed")

    monkeypatch.setattr(targets, "check_targets", missing)
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["bench", "--check"])
    assert result.exit_code == 2
    assert "needs timm" in result.output


def test_photographs_become_the_originals_pixels():
    pytest.importorskip("torchvision", reason="upstream's image processor needs torchvision (the `vision` extra)")
    timings, differences = run_preprocessing_benchmark(repetitions=1, warmup=0)
    assert list(timings) == ["ours", "ours-torchvision", "upstream-padded", "upstream"]
    assert differences["ours"] == 0
    assert 0 < differences["ours-torchvision"] < 2.5 / 255
    assert differences["upstream"] > 0.1
