# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The paper's own latencies (FastVLM, arXiv 2412.13303, tables 4 to 11): M1 Max, vision by Core ML, decoder by MLX."""

# Milliseconds of vision encoder and prefill, by model and decoder. FastVLM at 1024.
PAPER_MILLISECONDS: dict[tuple[str, str], tuple[float, float]] = {
    ("ours", "0.5B"): (116.3, 50.5),
    ("ours", "1.5B"): (116.3, 116.1),
    ("ours", "7B"): (116.3, 524.5),
    ("llava-onevision", "0.5B"): (2721.4, 11402.4),
    ("llava-1.5", "7B"): (127.4, 1170.0),
}


def paper_ratios(decoder: str) -> dict[str, float]:
    """How many times longer than FastVLM at 1024 each peer takes to its first token, of those the paper has."""
    totals = {name: sum(parts) for (name, size), parts in PAPER_MILLISECONDS.items() if size == decoder}
    return {name: total / totals["ours"] for name, total in totals.items() if name != "ours"}
