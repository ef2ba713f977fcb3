# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Options of the scripts, besides those of data sets and of trainers. Imports nothing that takes time."""

from dataclasses import dataclass, field

from ..evaluation.metric_loading import METRICS

METHODS = ("sft", "dpo")


def _option(default, text: str):
    return field(default=default, metadata={"help": text})


@dataclass
class FinetuneArguments:
    """What is trained, how it is evaluated, and what may be left out of a step."""

    model: str = field(metadata={"help": "folder or Hub id of a FastVLM checkpoint"})
    method: str = _option("sft", "sft, on answers, or dpo, on chosen and rejected ones (TRL's)")
    full: bool = _option(False, "train all weights instead of an adapter")
    load_in_4bit: bool = _option(False, "QLoRA: the decoder's weights in NF4")
    rank: int = _option(16, "of the adapter")
    alpha: int = _option(32, "the adapter's scale is alpha / rank")
    dropout: float = _option(0.05, "of the adapter's inputs")
    adapt_projector: bool = _option(False, "besides the decoder")
    adapt_encoder: bool = _option(False, "the encoder's attention, besides the decoder")
    resolution: int | None = _option(None, "side of the images in pixels; default the checkpoint's")
    resume: bool = _option(False, "go on from the last whole checkpoint in --output_dir")
    eval_dataset: str | None = _option(None, "rows to evaluate on; default a part of the data set")
    eval_split: str = _option("train", "of --eval_dataset")
    eval_fraction: float = _option(0.05, "kept for evaluation without --eval_dataset")
    eval_metric: str | None = _option(
        None, f"answer evaluation rows at each evaluation, and score them: {', '.join(METRICS)}"
    )
    eval_samples: int = _option(64, "rows answered at each evaluation; before and after the training, all")
    eval_new_tokens: int = _option(64, "of an answer, at most")
    replay: str | None = _option(None, "further rows to mix in, so that what they teach is not forgotten")
    replay_share: float = _option(0.2, "of all rows that are trained on, those of --replay")
    packing: bool = _option(False, "rows one after the other instead of padding")
    cache_features: str | None = _option(None, "folder to keep the frozen encoder's features of images in")
    cache_gigabytes: float = _option(50.0, "that --cache_features may take")

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"Unknown --method {self.method!r}; known are {', '.join(METHODS)}.")
        if self.eval_metric is not None and self.eval_metric not in METRICS:
            raise ValueError(f"Unknown --eval_metric {self.eval_metric!r}; known are {', '.join(METRICS)}.")
        for name in ("eval_fraction", "replay_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"--{name} is a share between 0 and 1, not {getattr(self, name)}.")
        if min(self.eval_samples, self.eval_new_tokens, self.rank) < 1:
            raise ValueError("--eval_samples, --eval_new_tokens and --rank are at least 1.")
        if self.full and (self.load_in_4bit or self.adapt_projector or self.adapt_encoder):
            raise ValueError("--full trains all weights: no --load_in_4bit, --adapt_projector or --adapt_encoder.")
        if self.cache_features is not None and (self.full or self.adapt_encoder):
            raise ValueError("--cache_features is for an encoder that stays as it is: no --full, no --adapt_encoder.")
        if self.packing and self.method == "dpo":
            raise ValueError("--packing is for --method sft.")
