# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What each way to run a checkpoint costs in answers: precision, quantization, caches, compilation, batches.

    python examples/tiny_reader/evaluate_ways.py --output_dir runs/ways
    python examples/tiny_reader/evaluate_ways.py --model apple/FastVLM-0.5B --tasks textvqa_val --output_dir ways

Prints a Markdown table: the scores of float32 in batches, and for every other way the points between them, and how
many documents are answered otherwise, which `fastvlm report` lists. Runs that were interrupted go on. `--json`
keeps the table, as in `docs/figures`.
"""

import argparse
from pathlib import Path

from figures import markdown_table, write_table
from transformers_fastvlm.evaluation import EvaluationConfig, run_evaluation
from transformers_fastvlm.evaluation.comparison import differences
from transformers_fastvlm.evaluation.runner import quieten_harness
from transformers_fastvlm.inference import ModelOptions
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line

BUNDLED = Path(__file__).resolve().parents[2] / "checkpoints" / "tiny-reader"
TASKS = "tiny_reading,tiny_counting,tiny_colours,tiny_digits,tiny_matching,tiny_retrieval"
REFERENCE = "float32"
WAYS = {
    REFERENCE: {"dtype": "float32"},
    "one by one": {"dtype": "float32"},
    "static cache": {"dtype": "float32", "static_cache": True},
    "compiled encoder": {"dtype": "float32", "compiled": True},
    "bfloat16": {"dtype": "bfloat16"},
    "int8 weights (torchao)": {"dtype": "float32", "quantization": "int8"},
    "int8 weights and activations (torchao)": {"dtype": "float32", "quantization": "int8-dynamic"},
    "LLM.int8() (bitsandbytes)": {"dtype": "float32", "quantization": "bnb-int8"},
    "nf4 (bitsandbytes)": {"dtype": "float32", "quantization": "nf4"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(BUNDLED), help="folder or Hub id of any FastVLM checkpoint")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--include_path", type=Path, default=BUNDLED / "evaluation" / "tasks", help="task definitions")
    parser.add_argument("--batch_size", type=at_least(1), default=8)
    parser.add_argument("--limit", type=at_least(1), help="documents per task")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="write the table to this file")
    arguments = parser.parse_args()

    quieten_harness()
    tasks = tuple(arguments.tasks.split(","))
    paths = {}
    for way, options in WAYS.items():
        folder = arguments.output_dir / "".join(letter if letter.isalnum() else "-" for letter in way)
        folder.mkdir(parents=True, exist_ok=True)
        paths[way] = folder / "results.json"
        batch_size = 1 if way == "one by one" else arguments.batch_size
        model = ModelOptions(arguments.model, **options)
        config = EvaluationConfig(
            model, tasks, batch_size, arguments.limit, output=paths[way], include_path=arguments.include_path
        )
        run_evaluation(config)

    found = {way: differences(path, paths[REFERENCE]) for way, path in paths.items()}
    columns = ["", *(each.task for each in found[REFERENCE]), "other answers"]
    rows = []
    for way, each_task in found.items():
        cells = [f"{each.after:.1f} %" if way == REFERENCE else f"{each.points:+.1f}" for each in each_task]
        changed = sum(len(each.changed or ()) for each in each_task)
        rows.append([way, *cells, None if way == REFERENCE else changed])
    print(markdown_table(columns, rows))
    if arguments.json is not None:
        write_table(arguments.json, columns, rows)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
