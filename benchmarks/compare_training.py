# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Memory and time of a training step of ours beside others, each in a process of its own.

    python benchmarks/compare_training.py --threads 2 --methods lora,lora-cached

Its options are those of `fastvlm bench train`, and `--peers` besides.
"""

from dataclasses import replace
from typing import Annotated, Any

import typer

from command_lines import JsonOption, named, run_script, script_command_line
from peer_training import TRAINING_PEERS
from transformers_fastvlm.benchmark.configurations import TrainingBenchmarkConfig
from transformers_fastvlm.benchmark.kinds import TRAIN
from transformers_fastvlm.programs.options import filled, with_options_of

ALL = ",".join(TRAINING_PEERS)
PeersOption = Annotated[str, typer.Option(help=f"Of {', '.join(TRAINING_PEERS)}.")]


@with_options_of(TrainingBenchmarkConfig, commas=True)
def main(peers: PeersOption = ALL, json_path: JsonOption = None, **options: Any) -> None:
    """Time a training step beside others, of 0.5B's sizes with random weights."""
    config = replace(filled(TrainingBenchmarkConfig, options), peers=named(peers, TRAINING_PEERS))
    TRAIN.measure(config, script_command_line(), json_path)


if __name__ == "__main__":
    run_script(main)
