# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Latency of our vision encoder beside others, taking turns in one process.

    python benchmarks/compare_encoders.py --threads 2 --peers upstream,clip-vit-l --ways ours-openvino

Its options are those of `fastvlm bench encoder`, and `--peers` and `--check` besides.
"""

from dataclasses import replace
from typing import Annotated, Any

import typer

from command_lines import JsonOption, PicturesOption, named, run_script, script_command_line
from peer_encoders import ENCODER_PEERS
from transformers_fastvlm.benchmark.configurations import OURS, EncoderBenchmarkConfig
from transformers_fastvlm.benchmark.kinds import ENCODER
from transformers_fastvlm.programs.options import filled, with_options_of

PeersOption = Annotated[str, typer.Option(help=f"Of {', '.join(ENCODER_PEERS)}.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Fail if ours is slower than a peer at any point.")]


def shortfalls(record: dict[str, Any], least_ratio: float = 1.0) -> list[str]:
    """Points at which ours is not `least_ratio` times as fast as another, in words; empty if there are none."""
    return [
        f"{point['resolution']}² {point['dtype']}: {ratio:.2f} × {name}, wanted {least_ratio:.2f} ×"
        for point in record["results"]["points"]
        for name, ratio in point["ratios"].items()
        if not name.startswith(OURS) and ratio < least_ratio
    ]


@with_options_of(EncoderBenchmarkConfig, commas=True)
def main(
    peers: PeersOption = "upstream",
    check: CheckOption = False,
    json_path: JsonOption = None,
    pictures: PicturesOption = None,
    **options: Any,
) -> None:
    """Latency of our vision encoder beside others, taking turns in one process."""
    config = replace(filled(EncoderBenchmarkConfig, options), peers=named(peers, ENCODER_PEERS))
    if check and not config.peers:
        raise ValueError("--check compares with a peer, so it needs one in --peers.")
    record = ENCODER.measure(config, script_command_line(), json_path, pictures)
    if check and (slower := shortfalls(record)):
        typer.echo("Ours is slower:\n" + "\n".join(slower), err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    run_script(main)
