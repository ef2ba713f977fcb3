# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The paper's training stages, from a FastViTHD encoder and any decoder to a FastVLM of one's own.

    python examples/train_stages.py --stage 1 --encoder apple/FastVLM-0.5B --decoder Qwen/Qwen2.5-1.5B-Instruct \\
        --dataset llava_558k.jsonl --output_dir stage1
    accelerate launch --config_file examples/accelerate/fsdp2.yaml examples/train_stages.py --stage 1.5 \\
        --model stage1 --dataset captions.jsonl --output_dir stage1.5

Every stage sets what trains, the learning rate, the schedule, the images' resolution and the batch size of all
processes together, which gradient accumulation makes up; any of them can be overridden. See
`transformers_fastvlm.training.STAGES`, and FastVLM (arXiv 2412.13303), section 4.
"""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoProcessor, HfArgumentParser, Trainer, TrainingArguments, set_seed

from transformers_fastvlm.extras import require
from transformers_fastvlm.inference import load_model
from transformers_fastvlm.programs.mistakes import mistakes_in_one_line
from transformers_fastvlm.training import (
    STAGES,
    DataArguments,
    FastVLMDataCollator,
    TrainingStage,
    build_vlm,
    explained_out_of_memory,
    parameter_groups,
    prepare_dataset,
    recognised_layout,
    train,
    train_only,
)


@dataclass
class StageDataArguments(DataArguments):
    """With the defaults that large data sets from the web want."""

    max_length: int | None = field(default=8192, metadata={"help": "longest example in tokens, images included"})
    faulty_rows: str = field(default="skip", metadata={"help": "stop at rows that cannot be trained on, or skip them"})


@dataclass
class ScriptArguments:
    stage: str = field(metadata={"help": f"one of {', '.join(STAGES)}"})
    model: str | None = field(default=None, metadata={"help": "the FastVLM of the stage before"})
    encoder: str | None = field(default=None, metadata={"help": "instead of --model: anything with a FastViTHD"})
    decoder: str | None = field(default=None, metadata={"help": "instead of --model: a causal language model"})
    resolution: int | None = field(default=None, metadata={"help": "side of the images; default the stage's"})
    batch_size: int | None = field(default=None, metadata={"help": "of all processes; default the stage's"})
    encoder_learning_rate: float | None = None
    projector_learning_rate: float | None = None
    decoder_learning_rate: float | None = None
    resume: bool = field(default=False, metadata={"help": "go on from the last whole checkpoint in --output_dir"})

    def __post_init__(self):
        if self.stage not in STAGES:
            raise ValueError(f"Unknown --stage {self.stage!r}; there are {', '.join(STAGES)}.")
        if (self.model is None) == (self.encoder is None or self.decoder is None):
            raise ValueError("Give either --model, or both --encoder and --decoder.")


def apply_stage(stage: TrainingStage, script: ScriptArguments, training: TrainingArguments) -> None:
    """Sets what the command line leaves open."""
    given = {argument.split("=")[0].replace("-", "_") for argument in sys.argv[1:] if argument.startswith("--")}
    defaults = {
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": stage.warmup_ratio,
        "weight_decay": stage.weight_decay,
        "num_train_epochs": 1,
    }
    for name, value in defaults.items():
        if f"__{name}" not in given:
            setattr(training, name, value)
    at_once = training.per_device_train_batch_size * training.world_size
    training.gradient_accumulation_steps = math.ceil((script.batch_size or stage.batch_size) / at_once)
    training.remove_unused_columns = False
    # Of streams, every process collates its own batches: images cannot be cut by rows.
    training.accelerator_config.dispatch_batches = False


def main() -> None:
    parser = HfArgumentParser((ScriptArguments, StageDataArguments, TrainingArguments))
    script, data, training = parser.parse_args_into_dataclasses()
    row_format = data.row_format  # options that cannot be are told first
    require(["accelerate", "datasets"], "train")
    set_seed(training.seed)
    stage = STAGES[script.stage]
    apply_stage(stage, script, training)
    resolution = script.resolution or stage.resolution
    # Optimizers need weights in full precision; `--bf16` computes in bfloat16 all the same.
    if script.model is None:
        model, processor = build_vlm(script.encoder, script.decoder, resolution)
    else:
        model = load_model(script.model, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(script.model, size=resolution)
    train_only(model, stage.trains)

    dataset = data.load()
    print(recognised_layout(dataset, row_format))
    dataset, report = prepare_dataset(dataset, processor, row_format, data.faulty_rows)
    if data.streaming:
        dataset = dataset.shuffle(seed=training.seed, buffer_size=1000)
    print(f"{report}; stage {script.stage} trains {', '.join(stage.trains)} at {resolution}x{resolution}")

    rates = {part: getattr(script, f"{part}_learning_rate") for part in stage.trains}
    rates = {part: rate for part, rate in rates.items() if rate is not None}
    groups = parameter_groups(model, training.learning_rate, training.weight_decay, **rates)
    optimizer = torch.optim.AdamW, {"params": groups, "lr": training.learning_rate}
    collator = FastVLMDataCollator(processor, row_format)
    trainer = Trainer(model, training, collator, train_dataset=dataset, optimizer_cls_and_kwargs=optimizer)
    with explained_out_of_memory(training.train_batch_size, resolution, training.gradient_checkpointing, 32):
        train(trainer, script.resume)
    trainer.save_model()
    if trainer.is_world_process_zero():
        processor.save_pretrained(Path(training.output_dir))


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
