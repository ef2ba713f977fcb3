# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What documentation has one type: commands, scripts, options, extras and make's targets exist."""

import contextlib
import io
import json
import re
import runpy
import shlex
import sys
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from transformers import TrainingArguments

from transformers_fastvlm.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "hub_upload" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
FIGURES = [
    ROOT / "checkpoints" / "tiny-reader" / "evaluation" / "results.json",
    *sorted(ROOT.glob("docs/figures/*.json")),
]
FIGURES += sorted(ROOT.glob("benchmarks/results/*.json"))
OTHERS_PROGRAMS = {"docker", "hf", "kubectl", "npm", "pre-commit", "ray"}


def commands_of(page: Path) -> list[str]:
    """The lines of a page's shell snippets, without comments, those with a backslash joined with what follows."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


COMMANDS = [pytest.param(line, id=f"{page.stem}: {line[:60]}") for page in PAGES for line in commands_of(page)]
COMMANDS += [
    pytest.param(json.loads(path.read_text(encoding="utf-8"))["command"], id=f"{path.stem}.json") for path in FIGURES
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_can_be_typed(line):
    check(shlex.split(line, comments=True))


def check(words: list[str]) -> None:
    """
    Raises:
        AssertionError: if a command, script, option, extra or target does not exist.
    """
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
    elif program == "pip":
        check_extras(" ".join(rest))
    elif program == "fastvlm":
        check_fastvlm(rest)
    elif program in ("python", "torchrun", "accelerate"):
        check_python(rest)
    else:
        assert program in OTHERS_PROGRAMS


def check_extras(words: str) -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extras in re.findall(r"\[([\w,]+)\]", words):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", pyproject, re.MULTILINE), extra


def check_fastvlm(words: list[str]) -> None:
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words[0]]
        words = words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, "--help")}
    assert not hasattr(command, "commands") or set(words) <= known, f"{command.name} has no {words}"
    if command.name == "finetune":  # which takes transformers' options, too, and either spelling
        known |= {option.replace("-", "_").replace("__", "--", 1) for option in known}
        known |= {f"--{field.name}" for field in fields(TrainingArguments)}
    assert {word for word in words if word.startswith("--")} <= known


def check_python(words: list[str]) -> None:
    """A script or module, perhaps started by a launcher, whose options stand before it."""
    place = next((index for index, word in enumerate(words) if word == "-m" or word.endswith(".py")), None)
    assert place is not None, words
    for word in words[:place]:
        assert not word.endswith(".yaml") or (ROOT / word).is_file(), word
    if words[place] == "-m":
        module, *rest = words[place + 1 :]
        if module.startswith("transformers_fastvlm"):
            check_fastvlm(rest if module == "transformers_fastvlm" else ["finetune", *rest])
        else:
            pytest.importorskip(module)
        return
    script = ROOT / words[place]
    assert script.is_file()
    training = {f"--{field.name}" for field in fields(TrainingArguments)}
    for option in {word for word in words[place + 1 :] if word.startswith("--")} - training:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", help_of(script)), option


@cache
def help_of(script: Path) -> str:
    """What `--help` of a script prints, in this process, whose imports are done."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [str(script), "--help"])
        patch.setenv("COLUMNS", "200")
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.syspath_prepend(str(script.parent))
        patch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit:
            pass
        except ModuleNotFoundError as error:
            pytest.skip(f"{script.name} needs {error.name}")
    return printed.getvalue()


def test_what_does_not_exist_is_found():
    for line in (
        "make nonsense",
        "pip install .[nonsense]",
        "fastvlm bench nonsense",
        "fastvlm evaluate --nonsense x",
        "fastvlm finetune --nonsense x",
    ):
        with pytest.raises(AssertionError):
            check(shlex.split(line))
    for line in ("python examples/nonsense.py", "python examples/read_images.py --nonsense", "nonsense"):
        with pytest.raises(AssertionError):
            check(shlex.split(line))
    assert find_spec("nonsense") is None
