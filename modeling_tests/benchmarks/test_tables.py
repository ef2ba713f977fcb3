"""Markdown of committed results: every figure of a record, and where it comes from."""

import json

import pytest

import tables
from transformers_fastvlm.benchmark.machine import Machine
from transformers_fastvlm.benchmark.records import make_record, write_record

RECORDS = sorted(tables.RESULTS.glob("*.json"))


def cells(markdown: str) -> list[list[str]]:
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_committed_record_becomes_a_table_with_its_origin(path):
    record = json.loads(path.read_text(encoding="utf-8"))
    markdown = tables.markdown(path)
    header, rule, *rows = cells(markdown)
    assert set("".join(rule)) <= {"-", ":"}
    assert rows
    assert all(len(row) == len(header) for row in (rule, *rows))
    assert record["command"] in markdown
    assert record["date"] in markdown
    assert record["machine"]["cpu"] in markdown
    assert "\x1b" not in markdown


def test_commands_of_committed_records_are_those_of_this_repository():
    commands = [json.loads(path.read_text(encoding="utf-8"))["command"] for path in RECORDS]
    assert len(commands) == len(set(commands))
    for command in commands:
        assert command.startswith(("fastvlm bench ", "python benchmarks/", "make bench-check"))
        assert " /" not in command


def test_wide_tables_are_not_folded(tmp_path):
    target = {"what": "speed " * 50, "least": 2.0, "aim": 3.0, "as_loaded": 2.5, "optimized": None, "verdict": "aim"}
    results = {"targets": [target], "seconds_to_optimize": [3.0, 1.0]}
    machine = Machine("An abacus", (), "cpu", 2, {"torch": "2.0"})
    record = make_record("ratios", "make bench-check", machine, results) | {"notes": ["A note."]}
    write_record(record, tmp_path / "ratios.json")
    markdown = tables.markdown(tmp_path / "ratios.json")
    assert cells(markdown)[2:] == [[("speed " * 50).strip(), "2.0", "3.0", "2.50", "–", "aim"]]
    assert markdown.startswith("```bash\nmake bench-check\n```\n")
    assert "\nA note.\n" in markdown
    assert "An abacus, 2 threads, device cpu; torch 2.0." in markdown


def test_the_script_prints_what_is_named(capsys):
    tables.main(["train"])
    printed = capsys.readouterr().out
    assert printed == tables.markdown(tables.RESULTS / "train.json") + "\n"
    tables.main()
    assert printed in capsys.readouterr().out
