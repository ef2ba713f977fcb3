"""Users' mistakes end every command and script in one line; programming errors keep their traceback."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prepared_processes import UNPREPARED
from running_scripts import ENVIRONMENT
from transformers_fastvlm import extras
from transformers_fastvlm.cli import app
from transformers_fastvlm.evaluation import comparison
from transformers_fastvlm.programs.mistakes import (
    TRACEBACK,
    at_least,
    in_one_line,
    is_users_mistake,
    mistakes_in_one_line,
    require_device,
    require_writable,
)

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
BUNDLED = ROOT / "checkpoints" / "tiny-reader"


def caught(action) -> Exception:
    with pytest.raises(Exception) as info:  # noqa: PT011
        action()
    return info.value


def refuse(error: Exception):
    def action():
        raise error

    return action


def import_missing_library():
    import no_such_library  # noqa: F401


def import_missing_module():
    import transformers_fastvlm.no_such_module  # noqa: F401


def import_missing_name():
    from transformers_fastvlm.extras import no_such_name  # noqa: F401


def unpack_too_many():
    a, b = 1, 2, 3  # noqa: F841


@pytest.mark.parametrize(
    ("action", "line"),
    [
        (lambda: Path("/no/such/file").read_text(), "/no/such/file: No such file or directory"),
        (lambda: b"\xff".decode(), "'utf-8' codec can't decode"),
        (lambda: json.loads("{"), "Expecting property name"),
        (refuse(ValueError("first\n  second")), "first second"),
        (refuse(MemoryError()), "MemoryError"),
        (refuse(ImportError("This needs x.")), "This needs x."),
        (import_missing_library, "no_such_library is not installed."),
    ],
)
def test_mistakes_become_one_line(action, line):
    error = caught(action)
    assert is_users_mistake(error)
    assert in_one_line(error).startswith(line)
    assert "\n" not in in_one_line(error)


@pytest.mark.parametrize(
    "action",
    [
        lambda: int("x"),
        unpack_too_many,
        lambda: {}["x"],
        lambda: None.x,
        lambda: [].pop(),
        refuse(RuntimeError("shapes do not match")),
        refuse(TypeError("x")),
        refuse(AssertionError()),
        import_missing_module,
        import_missing_name,
    ],
)
def test_programming_errors_do_not(action, monkeypatch, capsys):
    error = caught(action)
    assert not is_users_mistake(error)
    with pytest.raises(type(error)), mistakes_in_one_line():
        action()
    assert capsys.readouterr().err == ""


def test_the_traceback_can_be_had(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["folder/script.py"])
    with pytest.raises(SystemExit) as ended, mistakes_in_one_line():
        raise ValueError("It is wrong.")
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"script.py: error: It is wrong. ({TRACEBACK}=1 shows where)\n"
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(ValueError, match="It is wrong"), mistakes_in_one_line():
        raise ValueError("It is wrong.")


def test_checks(tmp_path):
    assert at_least(0)("0") == 0
    for text in ("-1", "x", "1.5"):
        assert "ArgumentTypeError" in repr(caught(lambda: at_least(0)(text)))  # noqa: B023
    require_device("cpu")
    with pytest.raises(ValueError, match="Device 'abacus' cannot be used"):
        require_device("abacus")
    require_writable(tmp_path / "new", "--x")
    with pytest.raises(ValueError, match="--x: .* is a folder"):
        require_writable(tmp_path, "--x")
    with pytest.raises(ValueError, match="--x: there is no folder"):
        require_writable(tmp_path / "a" / "b", "--x")


def run_script(capsys, script: str, *arguments: object) -> tuple[int | None, list[str]]:
    """Its exit code, `None` without one, and the lines on stderr; in this process, whose imports are done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        (path,) = EXAMPLES.rglob(script)
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        patch.syspath_prepend(str(path.parent))
        patch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        capsys.readouterr()
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as ended:
            return ended.code, capsys.readouterr().err.splitlines()
    return None, capsys.readouterr().err.splitlines()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory with things that are not what they should be."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no image")
    (tmp_path / "broken.jsonl").write_text('{"messages": [], "images": []}\nnonsense\n')
    (tmp_path / "blank.jsonl").write_text("\n")
    score = dict.fromkeys(("task", "dataset_name", "dataset_id", "dataset_split", "metric", "metric_name"), "x")
    score |= {"value": 50.0, "stderr": None, "samples": 3}
    for name, value in (("results", 50.0), ("damaged", "50")):
        results = {"model": "m", "settings": {}, "results": [score | {"value": value}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    (tmp_path / "columns.jsonl").write_text('{"dialogue": [], "images": []}\n')
    return tmp_path


NO_MODEL = ["--model", "no/such/model"], "no/such/model"
NO_CHECKPOINT = ["--model", "empty"], "empty"
NO_IMAGE = ["--image", "nowhere.png"], "nowhere.png"
NOT_AN_IMAGE = ["--image", "file"], "file"
LORA = ["--model", BUNDLED, "--output_dir", "out"]
STAGE = ["--trains", "projector", "--batch_size", "4", "--output_dir", "out"]
MISTAKES = {
    "visual_question_answering.py": [
        NO_MODEL,
        NO_CHECKPOINT,
        NO_IMAGE,
        NOT_AN_IMAGE,
        (["--max-new-tokens", "0"], "at least 1, not 0"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
    "captioning.py": [
        NO_MODEL,
        NO_CHECKPOINT,
        (["--folder", "nowhere"], "nowhere: No such file or directory"),
        (["--folder", "empty"], "There are no images in empty"),
        (["--output", "nowhere/x.jsonl"], "--output: there is no folder"),
        (["--output", "empty"], "--output: empty is a folder"),
        (["--batch-size", "0"], "at least 1"),
    ],
    "document_questions.py": [NO_MODEL, NO_CHECKPOINT, (["--page", "nowhere.png"], "nowhere.png")],
    "recommendation.py": [
        NO_MODEL,
        NO_CHECKPOINT,
        NO_IMAGE,
        NOT_AN_IMAGE,
        (["--catalogue", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        (["--catalogue", "broken.jsonl"], "needs a `file_name` and a `text`"),
        (["--catalogue", "blank.jsonl"], "needs a `file_name` and a `text`"),
        (["--count", "-1"], "at least 1"),
    ],
    "image_text_matching.py": [NO_MODEL, NO_CHECKPOINT, NO_IMAGE, NOT_AN_IMAGE],
    "read_images.py": [NO_MODEL, NO_CHECKPOINT, NO_IMAGE, NOT_AN_IMAGE, (["--max-new-tokens", "x"], "not a whole")],
    "evaluate_ways.py": [
        ([], "required: --output_dir"),
        (["--output_dir", "out", "--tasks", "no_such_task"], "There is no task 'no_such_task'"),
        (["--output_dir", "out", "--tasks", "tiny_digits", *NO_MODEL[0]], "no/such/model"),
        (["--output_dir", "file"], "file"),
        (["--output_dir", "out", "--batch_size", "0"], "at least 1"),
    ],
    "finetune_lora.py": [
        ([], "required: --model, --dataset"),
        ([*LORA, "--dataset", "nowhere.jsonl"], "There is no file nowhere.jsonl"),
        ([*LORA, "--dataset", "broken.jsonl"], "Line 1: `messages`"),
        ([*LORA, "--dataset", "broken.jsonl", "--rank", "x"], "invalid int value: 'x'"),
        (["--model", "empty", "--dataset", "broken.jsonl", "--output_dir", "out"], "empty"),
    ],
    "train_stages.py": [
        ([], "required: --trains, --batch_size/--batch-size, --dataset"),
        ([*STAGE, "--dataset", "broken.jsonl", "--trains", "head"], "Unknown --trains head"),
        (["--recipe", "nowhere.yaml"], "--recipe: there is no file nowhere.yaml"),
        ([*STAGE, "--dataset", "broken.jsonl", "--model", "empty"], "empty"),
        ([*STAGE, "--dataset", "nowhere.jsonl", "--model", BUNDLED], "There is no file nowhere.jsonl"),
        ([*STAGE, "--dataset", "broken.jsonl", "--model", BUNDLED], "There is nothing to train on: 2 rows, 2 left"),
    ],
    "finetune_trl.py": [
        (["--model_name_or_path", "empty", "--dataset", "empty", "--bf16", "false"], "empty"),
        (["--model_name_or_path", BUNDLED, "--dataset", "/no/such/folder", "--bf16", "false"], "/no/such/folder"),
    ],
    "train_tiny_reader.py": [
        ([], "--output_dir --evaluate is required"),
        (["--evaluate", "nowhere"], "There is no checkpoint in nowhere"),
        (["--output_dir", "out", "--start_from", "empty"], "There is no checkpoint in empty"),
        (["--output_dir", "file"], "file: File exists"),
        (["--output_dir", "out", "--workers", "-1"], "at least 0"),
    ],
    "make_tiny_evaluation.py": [
        ([], "required: --output_dir"),
        (["--output_dir", "file"], "file: File exists"),
        (["--output_dir", "out", "--count", "0"], "at least 1"),
    ],
    "tiny_stages.py": [(["--work_dir", "file"], "file"), (["--images", "1"], "at least 16")],
    "finetune_digits.py": [(["--work_dir", "file"], "file"), (["--test_size", "-1"], "at least 1")],
    "finetune_receipts.py": [(["--work_dir", "file"], "file"), (["--train_size", "1"], "at least 2")],
    "render_demo_images.py": [([], "required: folder"), (["file"], "file: File exists")],
}
NEEDS = {
    "evaluate_ways.py": ("lmms_eval", "rich"),
    "finetune_lora.py": ("accelerate", "datasets", "peft"),
    "train_stages.py": ("accelerate", "datasets"),
    "finetune_trl.py": ("datasets", "peft", "trl"),
    "make_tiny_evaluation.py": ("datasets", "pyarrow", "sklearn"),
    "tiny_stages.py": ("accelerate", "datasets", "evaluate"),
    "finetune_receipts.py": ("datasets", "evaluate", "matplotlib", "peft", "rapidfuzz", "sklearn"),
    "finetune_digits.py": ("datasets", "evaluate", "matplotlib", "peft", "sklearn"),
}


def skip_without_libraries_of(script: str) -> None:
    for library in NEEDS.get(script, ()):
        pytest.importorskip(library, reason=f"{script} needs {library}")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [(script, *mistake) for script, mistakes in MISTAKES.items() for mistake in mistakes],
)
def test_a_script_ends_in_one_line(script, arguments, message, here, capsys):
    skip_without_libraries_of(script)
    code, lines = run_script(capsys, script, *arguments)
    assert code == 2, lines
    assert lines[-1].startswith(f"{script}: error: ")
    assert message in lines[-1]
    assert not any("Traceback" in line or line.startswith("usage:") for line in lines)


def test_every_script_that_takes_arguments_is_in_the_table():
    scripts = {path.name for path in EXAMPLES.rglob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert scripts == set(MISTAKES)


@pytest.mark.parametrize(
    ("script", "library", "extra"),
    [
        ("finetune_lora.py", "peft", "train"),
        ("train_stages.py", "datasets", "train"),
        ("finetune_trl.py", "trl", "train"),
        ("finetune_digits.py", "sklearn", "train"),
        ("make_tiny_evaluation.py", "sklearn", "evaluation"),
        ("evaluate_ways.py", "lmms_eval", "evaluation"),
    ],
)
def test_a_script_names_the_extra_that_is_missing(script, library, extra, here, capsys, monkeypatch):
    skip_without_libraries_of(script)
    find_spec = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == library else find_spec(name))
    arguments = {"finetune_lora.py": ["--model", "m", "--dataset", "d"], "train_stages.py": [*STAGE, "--dataset", "d"]}
    arguments["train_stages.py"] += ["--model", "m"]
    for other in ("make_tiny_evaluation.py", "evaluate_ways.py"):
        arguments[other] = ["--output_dir", "out"]
    code, lines = run_script(capsys, script, *arguments.get(script, []))
    assert code == 2
    assert f"This needs {library}, which is not installed: pip install 'transformers-fastvlm[{extra}]'" in lines[-1]


def run_process(*command: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, command)]
    options = {"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300} | options
    return subprocess.run(command, check=False, **options)


def test_so_it_does_in_a_process_of_its_own(here):
    done = run_process(EXAMPLES / "read_images.py", "--model", "empty")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("read_images.py: error: ")
    asked_for = ENVIRONMENT | {"FASTVLM_TRACEBACK": "1"}
    assert "Traceback" in run_process(EXAMPLES / "read_images.py", "--model", "empty", env=asked_for).stderr


LIGHT = """
import sys
import fastvlm_command
sys.argv = ["fastvlm", *sys.argv[1:]]
try:
    fastvlm_command.main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        *([*command, "--help"] for command in (["bench", "encoder"], ["evaluate"], ["publish"])),
    ],
)
def test_help_and_version_import_nothing_heavy_and_warn_of_nothing(arguments):
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = run_process("-c", LIGHT, *arguments, env=environment, **UNPREPARED)
    assert done.returncode == 0, done.stderr
    (imported,) = done.stderr.splitlines()
    assert not {"torch", "transformers", "torchao", "bitsandbytes", "numpy"} & set(imported.split())
    assert "fastvlm" in done.stdout


ENCODER, TTFT, TRAIN = ["bench", "encoder"], ["bench", "ttft"], ["bench", "train"]
TASKS = BUNDLED / "evaluation" / "tasks"
EVALUATE = ["evaluate", "--model", BUNDLED, "--tasks", "tiny_digits", "--include-path", TASKS]
NO_GPU = ["--device", "cuda:99"], "Device 'cuda:99' cannot be used"
NO_FOLDER = ["--json", "nowhere/x.json"], "--json: there is no folder"
A_FOLDER = ["--json", "empty"], "--json: empty is a folder"
NO_PICTURES = ["--pictures", "file"], "file: File exists"
COMMANDS = [
    (["no-such-command"], "No such command 'no-such-command'"),
    (["bench", "--check"], "No such option: --check"),
    ([*TTFT, "--threads", "x"], "Invalid value for '--threads'"),
    *[
        ([*command, *arguments], message)
        for command in (ENCODER, TTFT, TRAIN)
        for arguments, message in (NO_GPU, NO_FOLDER, A_FOLDER, (["--unknown"], "No such option: --unknown"))
    ],
    ([*ENCODER, "--dtypes", "int4"], "Unknown dtype 'int4'"),
    ([*ENCODER, "--resolutions", "-64"], "multiples of 64"),
    ([*ENCODER, "--batch-size", "-1"], "--batch-size"),
    ([*ENCODER, "--warmup", "-1"], "--warmup"),
    ([*ENCODER, "--threads", "0"], "--threads"),
    ([*ENCODER, "--ways", "magic"], "Unknown way 'magic'"),
    ([*ENCODER, "--model", "empty"], "empty"),
    ([*ENCODER, *NO_PICTURES[0]], NO_PICTURES[1]),
    ([*TTFT, "--decoder", "3B"], "3B"),
    ([*TTFT, "--dtype", "int4"], "Unknown dtype 'int4'"),
    ([*TTFT, "--ways", "magic"], "Unknown way 'magic'"),
    ([*TTFT, "--peers", "upstream"], "No such option: --peers"),
    ([*TTFT, "--image", "nowhere.png"], "There is no image nowhere.png"),
    ([*TTFT, "--text-tokens", "-1"], "at least 1"),
    ([*TTFT, "--budget", "-1"], "`budget` must be at least 0"),
    ([*TTFT, "--model", "empty"], "empty"),
    ([*TTFT, *NO_PICTURES[0]], NO_PICTURES[1]),
    ([*TRAIN, "--methods", "magic"], "magic"),
    ([*TRAIN, "--steps", "0"], "at least 1"),
    ([*TRAIN, "--dtype", "float16"], "not 'float16'"),
    ([*TRAIN, "--threads", "0"], "--threads"),
    (["evaluate"], "Missing option"),
    (["report"], "Missing argument"),
    (["report", "nowhere.json"], "nowhere.json cannot be read as results: "),
    (["report", "empty"], "empty cannot be read as results: "),
    (["report", "broken.jsonl"], "broken.jsonl cannot be read as results: "),
    (["report", "columns.jsonl"], "without model, settings, results"),
    (["report", "results.json", "--tolerance", "-1"], "--tolerance"),
    (["report", "results.json", "--baseline", "nowhere.json"], "nowhere.json cannot be read as results: "),
    (["report", "results.json", *NO_PICTURES[0]], NO_PICTURES[1]),
    (["report", "results.json", "damaged.json"], "damaged.json has a score whose value is a str"),
]
EVALUATIONS = [
    (["--model", "no/such/model"], "no/such/model"),
    (["--model", "empty"], "empty"),
    (["--tasks", "no_such_task"], "There is no task 'no_such_task'"),
    (["--quantization", "int2"], "Unknown scheme 'int2'"),
    (["--dtype", "int4"], "Unknown dtype 'int4'"),
    (["--limit", "-1"], "at least 1"),
    (["--batch-size", "0"], "at least 1"),
    (["--resolution", "-5"], "at least 1, not -5"),
    (["--adapter", "empty"], "empty"),
    (["--include-path", "nowhere"], "There is no folder nowhere"),
    (["--output", "nowhere/x.json"], "--output: there is no folder"),
    (["--output", "empty"], "--output: empty is a folder"),
    NO_GPU,
    NO_PICTURES,
]


def run_command_here(*arguments: object):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(map(str, arguments)), prog_name="fastvlm")


@pytest.mark.parametrize(
    ("arguments", "message"), [*COMMANDS, *(([*EVALUATE, *arguments], message) for arguments, message in EVALUATIONS)]
)
def test_a_command_ends_in_one_line(arguments, message, here):
    if arguments[0] == "evaluate":
        pytest.importorskip("lmms_eval", reason="the command needs lmms-eval (the `evaluation` extra)")
    if arguments[0] == "report" or "--pictures" in arguments:
        pytest.importorskip("matplotlib", reason="pictures need matplotlib (the `evaluation` and `bench` extras)")
    done = run_command_here(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("fastvlm")
    assert ": error: " in last
    assert message in last
    assert "Traceback" not in done.stderr


def test_an_error_of_the_program_keeps_its_traceback(here, monkeypatch):
    monkeypatch.setattr(comparison, "read_results", lambda path: {}["no such key"])
    done = run_command_here("report", "results.json")
    assert isinstance(done.exception, KeyError)
    assert "error:" not in done.stderr


def test_a_benchmark_starts_without_libraries_for_quantization_and_training(here):
    program = (
        "import sys\n"
        "from transformers_fastvlm.benchmark import encoder_latency, kinds, plots, report, training, ttft\n"
        "print(*sys.modules)"
    )
    done = run_process("-c", program)
    assert done.returncode == 0, done.stderr
    assert not {"bitsandbytes", "peft", "datasets", "trl"} & set(done.stdout.split())


def test_the_command_ends_in_one_line(here):
    done = run_process("-m", "fastvlm_command", "report", "nowhere.json")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("fastvlm: error: nowhere.json cannot be read as results")
