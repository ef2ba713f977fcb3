"""The `fastvlm` command: what it mounts, its help."""

from importlib import metadata

from typer.testing import CliRunner

from transformers_fastvlm.cli import app


def run(*arguments: str):
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_help_names_the_commands():
    output = run("--help").output
    for command in ("ask", "bench", "chat", "data", "evaluate", "publish", "report", "serve"):
        assert command in output
    assert run().output == output


def test_the_version_is_the_packages():
    assert run("--version").output == f"fastvlm {metadata.version('transformers-fastvlm')}\n"
