"""`fastvlm chat`: what is kept of a conversation, its commands, and a real process on a terminal."""

import os
import select
import signal
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from running_scripts import ENVIRONMENT
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.asking import Conversation, terminal
from transformers_fastvlm.cli import app
from transformers_fastvlm.inference import AnswerOptions, ModelOptions, RunOptions, load_answerer, model_options

IMAGES = Path(__file__).parents[2] / "checkpoints" / "tiny-reader" / "images"
SIGN = IMAGES / "sign.png"
QUESTION = "What does it say?"


@pytest.fixture(scope="module")
def reader():
    return load_answerer(ModelOptions(model_options.bundled_checkpoint()), RunOptions("cpu"))


class Talk(Conversation):
    def __init__(self, answerer, options=AnswerOptions(), **others):  # noqa: B008
        self.written: list[str] = []
        self.said: list[str] = []
        super().__init__(answerer, options, self.written.append, self.said.append, **others)

    def kinds(self) -> list:
        """Roles with the kinds of what they hold."""
        return [
            (message["role"], [part["type"] for part in message["content"]])
            if isinstance(message["content"], list)
            else (message["role"], message["content"])
            for message in self.messages
        ]


def test_what_was_said_and_shown_is_kept(reader):
    talk = Talk(reader)
    talk.take(f"/image {SIGN}")
    assert "pixels" in talk.said[0]
    talk.take(QUESTION)
    assert talk.written == [*"HELLO", "\n"]
    talk.take("Hm.")
    kinds = talk.kinds()
    assert kinds[:3] == [("user", ["image", "text"]), ("assistant", "HELLO"), ("user", ["text"])]
    assert len(kinds) == 4
    talk.take("/new")
    assert talk.messages == []
    talk.take("  ")
    assert talk.messages == []


@pytest.mark.parametrize("typed", ["'{}'", '"{}"', "{} {}"])
def test_paths_may_be_quoted_or_several(reader, typed, tmp_path):
    path = SIGN if "{} {}" in typed else tmp_path / "a sign.png"
    if path != SIGN:
        path.write_bytes(SIGN.read_bytes())
    talk = Talk(reader)
    talk.take("/image " + typed.format(path, path))
    talk.take(QUESTION)
    assert talk.kinds()[0][1] == ["image"] * typed.count("{}") + ["text"]


def test_mistakes_are_told_and_change_nothing(reader):
    talk = Talk(reader)
    talk.take(f"/image {SIGN}")
    for line, message in [
        ("/image nowhere.png", "error: There is no image file 'nowhere.png'"),
        ("/image", "error: /image needs the path"),
        ("/nonsense", "There is no command /nonsense"),
        ("/help", "Ctrl-D leaves"),
        ("word " * 2000, "the decoder's context is 1024"),
    ]:
        talk.take(line)
        assert message in talk.said[-1]
    assert talk.messages == []
    talk.take(QUESTION)
    assert talk.messages[1]["content"] == "HELLO"  # the image is there still


def test_a_path_is_no_command(reader):
    talk = Talk(reader, AnswerOptions(max_new_tokens=1))
    talk.take("/usr/bin is a folder")
    assert talk.kinds()[0] == ("user", ["text"])
    assert "cut off" in talk.said[-1]


def test_an_answer_that_was_stopped_is_kept_as_far_as_it_came(reader):
    talk = Talk(reader)

    def interrupt(piece: str) -> None:
        talk.written.append(piece)
        if len(talk.written) == 2:
            raise KeyboardInterrupt

    talk._write = interrupt
    talk.take(f"/image {SIGN}")
    talk.take(QUESTION)
    assert talk.messages[1]["content"] == "HE"
    assert "(stopped)" in talk.said[-1]
    talk._write = talk.written.append
    talk.take("/new")
    talk.take(f"/image {SIGN}")
    talk.take(QUESTION)
    assert talk.messages[1]["content"] == "HELLO"


def test_lines_may_come_from_a_pipe():
    result = CliRunner().invoke(app, ["chat", str(SIGN)], input=f"{QUESTION}\n/new\n")
    assert (result.exit_code, result.stdout) == (0, "HELLO\n")


def test_no_answer_controls_the_terminal(monkeypatch):
    written = []

    class Terminal:
        def isatty(self):
            return True

        def write(self, text):
            written.append(text)

        def flush(self):
            pass

    terminal.write("a\x1b[2J\x07\r\x9bb\n\tc漢", Terminal())
    assert written == ["a[2Jb\n\tc漢"]


class OnATerminal:
    """A process with a terminal of its own."""

    def __init__(self, *command: object):
        import pty

        self.shown, self.is_over = "", False
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, *map(str, command)], {**ENVIRONMENT, "TERM": "dumb"})

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None and not self.is_over:
            os.kill(self.pid, signal.SIGKILL)
            self.exit_code()

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """What was shown up to the text, which is taken out."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.terminal], [], [], 1)[0]:
                self.shown += os.read(self.terminal, 4096).decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def exit_code(self) -> int:
        self.is_over = True
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.skipif(sys.platform == "win32", reason="has no such terminals")
def test_on_a_terminal_control_c_stops_an_answer_and_control_d_leaves(tmp_path):
    write_tiny_checkpoint(tmp_path)  # it goes on until its context ends
    with OnATerminal("-m", "fastvlm_command", "chat", "--model", tmp_path, "--max-new-tokens", 100_000) as process:
        process.wait_for("Ctrl-D leaves.")
        process.wait_for("> ")
        process.type(f"/image {SIGN}\n")
        process.wait_for("pixels, shown with what you say next.")
        process.wait_for("> ")
        process.type("Go on\n")
        process.wait_for("Go on\r\n")
        time.sleep(1.5)
        process.type("\x03")
        assert process.wait_for("(stopped)").strip()
        process.wait_for("> ")
        process.type("half a line")
        process.wait_for("half a line")
        time.sleep(1)  # between its echo and the wait for the next key, Python would see the signal only at that key
        process.type("\x03")
        process.wait_for("(Ctrl-D leaves)")
        process.wait_for("> ")
        process.type("\x04")
        assert process.exit_code() == 0
