"""lmms-eval's own command finds the model through its entry point."""

import sys

import pytest

pytest.importorskip("lmms_eval", reason="the plug-in needs lmms-eval (the `evaluation` extra)")

from evaluating import BUNDLED, TASKS

from running_scripts import run_command


def test_lmms_evals_own_command_runs_it(tmp_path):
    arguments = ["--model", "fastvlm", "--model_args", f"pretrained={BUNDLED},dtype=float32,resolution=192"]
    arguments += ["--tasks", "tiny_colours,tiny_matching", "--include_path", str(TASKS)]
    arguments += ["--batch_size", "4", "--limit", "8", "--output_path", str(tmp_path), "--log_samples"]
    printed = run_command([sys.executable, "-m", "lmms_eval", *arguments], folder=tmp_path)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if "|tiny_" in line]
    scores = {row[0]: (row[3], float(row[5])) for row in rows}
    assert {name: metric for name, (metric, _) in scores.items()} == {
        "tiny_colours": "exact_match",
        "tiny_matching": "acc",
    }
    assert min(value for _, value in scores.values()) >= 0.6
