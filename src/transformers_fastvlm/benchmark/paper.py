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


def paper_ratio(peer: str, decoder: str) -> float | None:
    """How many times longer than FastVLM at 1024 a peer takes to its first token; `None` if the paper does not say."""
    theirs, ours = PAPER_MILLISECONDS.get((peer, decoder)), PAPER_MILLISECONDS.get(("ours", decoder))
    return None if theirs is None or ours is None else sum(theirs) / sum(ours)
