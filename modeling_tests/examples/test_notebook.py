"""The notebook, run whole in a kernel of its own on the bundled checkpoint."""

import os
import shutil
from pathlib import Path

import pytest

from running_scripts import ENVIRONMENT

for library in ("nbclient", "ipykernel", "peft", "sklearn", "evaluate", "matplotlib"):
    pytest.importorskip(library, reason=f"the notebook is run with {library} (the `dev` extra)")
ROOT = Path(__file__).parent.parent.parent


def printed(cell) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def test_the_notebook_teaches_digits(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    for name, value in ENVIRONMENT.items():
        monkeypatch.setitem(os.environ, name, value)
    (tmp_path / "examples").mkdir()
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    path = shutil.copy(ROOT / "examples" / "finetune.ipynb", tmp_path / "examples")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none is stored
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path / "examples")}}
    ).execute()
    told = "".join(printed(cell) for cell in notebook.cells if cell.cell_type == "code")
    assert "questions and answers in `question`, `answer`, images in `image`" in told
    assert "exact match before: 0%" in told
    after = int(told.partition("exact match after: ")[2].partition("%")[0])
    assert after > 30  # guessing gives 10
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))
