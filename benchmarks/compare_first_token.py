# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Time from image file to first token of ours beside other models, stage by stage, each in a process of its own.

    python benchmarks/compare_first_token.py --threads 2 --peers upstream,llava-1.5 --ways ours-openvino,ours-int8

Its options are those of `fastvlm bench ttft`, and `--peers` besides.
"""

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from command_lines import JsonOption, PicturesOption, named, run_script, script_command_line
from paper_latencies import paper_ratios
from peer_vlms import VLM_PEERS
from transformers_fastvlm.benchmark.configurations import TtftBenchmarkConfig
from transformers_fastvlm.benchmark.kinds import TTFT
from transformers_fastvlm.benchmark.plots import draw_ttft
from transformers_fastvlm.programs.options import filled, with_options_of

ALL = ",".join(VLM_PEERS)
PeersOption = Annotated[str, typer.Option(help=f"Of {', '.join(VLM_PEERS)}; llava-onevision is slow.")]


@with_options_of(TtftBenchmarkConfig, commas=True)
def main(
    peers: PeersOption = ALL,
    json_path: JsonOption = None,
    pictures: PicturesOption = None,
    **options: Any,
) -> None:
    """Time from image file to first token beside other models, each as its users get it."""
    config = replace(filled(TtftBenchmarkConfig, options), peers=named(peers, VLM_PEERS))
    with_paper = replace(TTFT, pictures=partial(draw_ttft, paper=paper_ratios(config.decoder)))
    with_paper.measure(config, script_command_line(), json_path, pictures)


if __name__ == "__main__":
    run_script(main)
