# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of figures, as scripts write them and as documentation shows them."""

import json
import sys
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "examples" / "tiny_reader"))
sys.path.insert(0, str(ROOT / "docs" / "generators"))

import figure_tables
from figures import markdown_table, write_table

COLUMNS = ["", "digits", "minutes"]
ROWS = [["before", "0.0%", None], ["LoRA", "94.2%", 2.94]]
TABLE = "|  | digits | minutes |\n| --- | --- | --- |\n| before | 0.0% |  |\n| LoRA | 94.2% | 2.9 |"


def test_a_table_in_markdown():
    assert markdown_table(COLUMNS, ROWS) == TABLE


def test_documentation_shows_what_a_script_wrote_and_how(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py", "--name", "two words"])
    write_table(tmp_path / "table.json", COLUMNS, ROWS)
    shown = figure_tables.markdown(tmp_path / "table.json")
    assert shown.startswith(f"```bash\npython script.py --name 'two words'\n```\n\n{TABLE}\n")
    assert date.today().isoformat() in shown
    assert "threads of" in shown and "torch" in shown


def test_scores_have_their_errors():
    shown = figure_tables.markdown(ROOT / "checkpoints" / "tiny-reader" / "evaluation" / "results.json")
    rows = json.loads((ROOT / "checkpoints" / "tiny-reader" / "evaluation" / "results.json").read_text())["results"]
    assert f"| {rows[0]['value']:.1f} ± {rows[0]['stderr']:.1f} | {rows[0]['samples']} |" in shown
    assert shown.count("\n| ") == len(rows) + 2  # columns, dashes


def test_a_table_without_its_origin_is_an_error(tmp_path):
    (tmp_path / "table.json").write_text(json.dumps({"columns": COLUMNS, "rows": ROWS}))
    with pytest.raises(KeyError, match=r"date|command"):
        figure_tables.markdown(tmp_path / "table.json")
