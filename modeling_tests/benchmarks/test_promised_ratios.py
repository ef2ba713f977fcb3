"""The promised ratios: their arithmetic, table and exit code. No test looks at how long anything takes."""

import json
import pickle

import pytest
import typer
from typer.testing import CliRunner

import promised_ratios
from promised_ratios import Target, TargetCheck
from transformers_fastvlm.benchmark.configurations import EncoderBenchmarkConfig, TtftBenchmarkConfig
from transformers_fastvlm.benchmark.encoder_latency import EncoderBenchmark, EncoderPoint
from transformers_fastvlm.benchmark.machine import Machine
from transformers_fastvlm.benchmark.profiling import Profile
from transformers_fastvlm.benchmark.timing import Timing
from transformers_fastvlm.benchmark.ttft import Stages, TtftBenchmark, TtftPoint
from transformers_fastvlm.extras import MissingLibraryError

PROFILE = Profile((), 1, 1.0)
MACHINE = Machine("A processor", ("avx2",), "cpu", 2, {"torch": "2.0"})


def encoders(*dtypes: str) -> EncoderBenchmark:
    timings = {"ours": Timing((1.0, 1.0)), "upstream": Timing((2.5, 2.5)), "ours-openvino": Timing((0.5, 0.5))}
    points = [EncoderPoint(1024, dtype, 1, timings) for dtype in dtypes]
    return EncoderBenchmark(MACHINE, EncoderBenchmarkConfig(), points, {}, {})


def test_encoders_are_compared_with_upstream():
    bfloat16, float32 = promised_ratios.encoder_targets(encoders("bfloat16", "float32"))
    assert (bfloat16.as_loaded, bfloat16.optimized, bfloat16.least) == (2.5, 5.0, 2.2)
    assert (float32.least, float32.aim) == (1.5, 2.1)
    assert promised_ratios.throughput_target(encoders("bfloat16")).optimized == 5.0


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
    benchmarks = (TtftBenchmark(MACHINE, TtftBenchmarkConfig(), measured, PROFILE) for measured in (points, slow))
    found = promised_ratios.first_token_targets(*benchmarks)
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


def run(*arguments: str):
    app = typer.Typer()
    app.command()(promised_ratios.main)
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


@pytest.mark.parametrize(("ratio", "code"), [(2.2, 0), (1.5, 1)])
def test_the_script_says_what_falls_short(monkeypatch, tmp_path, ratio, code):
    check = TargetCheck(MACHINE, (Target("speed of light", 2.0, 3.0, ratio),), (12.0, 2.0))
    monkeypatch.setattr(promised_ratios, "check_targets", lambda threads, progress: check)
    result = run("--threads", "2", "--json", str(tmp_path / "check.json"))
    assert result.exit_code == code, result.output
    assert "12.0 s with its first image, 2.0 s in later processes" in result.stdout
    assert ("Short of the promise:\nspeed of light" in result.stderr) == bool(code)
    written = json.loads((tmp_path / "check.json").read_text())
    assert written["results"]["targets"][0]["as_loaded"] == ratio


def test_a_missing_library_is_named(monkeypatch):
    def missing(threads, progress):
        raise MissingLibraryError("This needs timm, which is not installed")

    monkeypatch.setattr(promised_ratios, "check_targets", missing)
    with pytest.raises(MissingLibraryError, match="needs timm"):
        raise run().exception


def test_nothing_is_measured_where_the_result_cannot_be_written():
    result = run("--json", "no/such/folder/result.json")
    assert isinstance(result.exception, ValueError)
    assert "there is no folder" in str(result.exception)


def test_every_promise_is_measured_beside_its_peer(monkeypatch):
    for module in ("timm", "torchvision", "openvino", "nncf"):
        pytest.importorskip(module, reason=f"the check needs {module}")
    seconds = {"ours": 1.0, "upstream": 2.0, "ours-openvino": 0.5, "ours-int8": 0.25, "llava-onevision": 30.0}
    points = tuple(
        TtftPoint(name, 1024, 256, (Stages(0, value, 0, 0, 0, 0.1),) * 2, None) for name, value in seconds.items()
    )
    photograph = {"ours": Timing((1.0,)), "upstream-padded": Timing((2.0,))}, {"ours": 0.0}
    first_token = TtftBenchmark(MACHINE, TtftBenchmarkConfig(), points, PROFILE)
    results = [
        encoders("float32", "bfloat16"),
        encoders("bfloat16"),
        photograph,
        first_token,
        first_token,
        (12.0, 2.0),
    ]
    asked = []

    def measured(function, *arguments):
        pickle.dumps((function, arguments))  # as it goes to another process
        asked.append(arguments)
        return results[len(asked) - 1]

    monkeypatch.setattr(promised_ratios, "in_fresh_process", measured)
    check = promised_ratios.check_targets(threads=2)
    assert [target.as_loaded for target in check.targets] == [2.5, 2.5, 2.5, 2.0, 30.0, None, None, 1.0, 2.0]
    assert [target.optimized for target in check.targets] == [5.0, 5.0, 5.0, 4.0, 60.0, 120.0, 120.0, 1.0, None]
    assert check.seconds_to_optimize == (12.0, 2.0)
    configs = [config for arguments in asked for config in arguments if hasattr(config, "subjects")]
    assert [[subject.name for subject in config.subjects] for config in configs] == [
        ["upstream", "ours-openvino"],
        ["upstream", "ours-openvino"],
        ["upstream", "llava-onevision", "ours-openvino", "ours-int8"],
        ["llava-onevision"],
    ]
    assert [config.resolutions for config in configs] == [(1024,), (512,), (1024,), (1024,)]
    assert [config.batch_size for config in configs] == [1, 8, 1, 1]
    assert all(config.threads == 2 for config in configs)
