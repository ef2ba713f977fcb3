"""`fastvlm ask`: what is printed, what reaches the model, mistakes in one line, and real processes with pipes."""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from running_scripts import ENVIRONMENT
from transformers_fastvlm import extras
from transformers_fastvlm.asking import configuration, read_images
from transformers_fastvlm.cli import app
from transformers_fastvlm.inference import answerer, model_options

SIGN = Path(__file__).parents[2] / "checkpoints" / "tiny-reader" / "images" / "sign.png"
QUESTION = "What does it say?"


def run(*arguments: object):
    words = ["ask", *map(str, arguments)]
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, words)


def test_the_bundled_checkpoint_answers():
    result = run(SIGN, QUESTION)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "HELLO\n", "")


def test_json_has_tokens_and_times():
    written = json.loads(run(SIGN, QUESTION, "--json", "--device", "cpu").stdout)
    assert (written.pop("answer"), written.pop("finish_reason")) == ("HELLO", "stop")
    assert (written.pop("prompt_tokens"), written.pop("tokens")) == (34, 6)
    assert 0 < written.pop("time_to_first_token") < written.pop("seconds")
    assert written.pop("tokens_per_second") > 0
    assert written == {}


def test_an_answer_that_is_cut_off_is_told():
    result = run(SIGN, QUESTION, "--max-new-tokens", 2)
    assert (result.exit_code, result.stdout) == (0, "HE\n")
    assert result.stderr == "The answer was cut off after 2 tokens (--max-new-tokens).\n"


def test_every_option_reaches_the_model(monkeypatch):
    seen = []

    def load_answerer(model, run):
        seen.append((model, run))
        return Stub()

    class Stub:
        def stream(self, messages, options):
            seen.append((messages, options))
            raise ValueError("enough")

    monkeypatch.setattr(answerer, "load_answerer", load_answerer)
    options = ["--model", "M", "--adapter", "A", "--quantization", "nf4", "--resolution", 512, "--dtype", "bfloat16"]
    options += ["--optimize", "--device", "cpu", "--tiles", "--stop", "a", "--stop", "b", "--temperature", 0.5]
    result = run(SIGN, SIGN, QUESTION, *options, "--top-p", 0.9, "--seed", 3, "--max-new-tokens", 7)
    assert "enough" in result.stderr
    (model, where), ([message], how) = seen
    assert (model.pretrained, model.adapter, model.quantization) == ("M", "A", "nf4")
    assert (model.resolution, model.dtype) == (512, "bfloat16")
    assert (where.device, where.optimize) == ("cpu", True)
    assert (how.tiles, how.stop, how.temperature, how.top_p, how.seed) == (True, ("a", "b"), 0.5, 0.9, 3)
    assert how.max_new_tokens == 7
    assert [part["type"] for part in message["content"]] == ["image", "image", "text"]
    assert message["content"][2]["text"] == QUESTION


def test_a_schema_is_kept_to(tmp_path):
    pytest.importorskip("llguidance", reason="schemas need llguidance (the `schema` extra)")
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    result = run(SIGN, QUESTION, "--schema", tmp_path / "schema.json")
    assert json.loads(result.stdout)["n"] in (1, 2)
    (tmp_path / "bad.json").write_text("{")
    assert "bad.json is no JSON" in run(SIGN, QUESTION, "--schema", tmp_path / "bad.json").stderr
    (tmp_path / "list.json").write_text("[]")
    assert "list.json has no JSON object" in run(SIGN, QUESTION, "--schema", tmp_path / "list.json").stderr


def bomb() -> bytes:
    """A PNG whose header says that it has 3.6 billion pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with files that are no images and a model that is no FastVLM, as the working directory."""
    (tmp_path / "bomb.png").write_bytes(bomb())
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        ([SIGN, ""], "The question is empty"),
        ([SIGN], "The question is missing"),
        ([SIGN, "-"], "The question is missing"),
        (["http://127.0.0.1/a.png"], "The question is missing"),
        (["nowhere.png", QUESTION], "There is no image file 'nowhere.png'"),
        (["text.png", QUESTION], "The image 'text.png' cannot be read"),
        (["bomb.png", QUESTION], "The image 'bomb.png' cannot be read: Image size (3600000000 pixels) exceeds"),
        (["http://127.0.0.1:9/a.png", QUESTION], "cannot be downloaded"),
        (["-", QUESTION], "nothing came from there"),
        (["-", "-", QUESTION], "one image only"),
        ([SIGN, QUESTION, "--model", "no/such-model"], "no/such-model"),
        ([SIGN, QUESTION, "--model", "./nowhere"], "--model: there is no folder ./nowhere"),
        ([SIGN, QUESTION, "--model", "other"], "other is no FastVLM checkpoint: its `model_type` is 'bert'"),
        ([SIGN, QUESTION, "--device", "cuda:99"], "Device 'cuda:99' cannot be used"),
        ([SIGN, QUESTION, "--quantization", "int2"], "Unknown scheme 'int2'"),
        ([SIGN, QUESTION, "--resolution", 100], "The image size 100 is not divisible by 64"),
        ([SIGN, QUESTION, "--max-new-tokens", 0], "must be at least 1"),
        ([SIGN, "word " * 2000], "the decoder's context is 1024"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, here):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert "error: " in line and message in line


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    result = run(SIGN, QUESTION, "--schema", "schema.json")
    assert result.exit_code == 2
    assert "pip install 'transformers-fastvlm[schema]'" in result.stderr


def test_without_a_clone_a_model_must_be_named(monkeypatch):
    monkeypatch.setattr(model_options, "__file__", "/site-packages/transformers_fastvlm/inference/model_options.py")
    result = run(SIGN, QUESTION)
    assert result.exit_code == 2
    assert "Which model?" in result.stderr


def test_standard_input_is_bounded(monkeypatch):
    assert read_images(["-"], io.BytesIO(SIGN.read_bytes()))[0].size == read_images([str(SIGN)])[0].size
    monkeypatch.setattr("transformers_fastvlm.asking.images.URL_BYTES", 100)
    with pytest.raises(ValueError, match="has more than"):
        read_images(["-"], io.BytesIO(SIGN.read_bytes()))


def test_a_question_may_be_longer_than_a_files_name():
    assert configuration.split_words(["a", "why? " * 2000]) == (["a"], "why? " * 2000)


def test_a_process_takes_an_image_from_a_pipe_and_says_nothing_else():
    command = [sys.executable, "-m", "fastvlm_command", "ask", "-", QUESTION]
    done = subprocess.run(
        command, env=ENVIRONMENT, input=SIGN.read_bytes(), capture_output=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO\n", b"")


def test_a_reader_may_leave_early():
    command = [sys.executable, "-m", "fastvlm_command", "ask", str(SIGN), QUESTION]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(300), errors) == (1, b"")
