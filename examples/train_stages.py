# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The paper's training stages, from a FastViTHD encoder and any decoder to a FastVLM of one's own.

    python examples/train_stages.py --recipe examples/recipes/stage_1.yaml --encoder apple/FastVLM-0.5B \\
        --decoder Qwen/Qwen2.5-1.5B-Instruct --dataset llava_558k.json --output_dir stage1
    accelerate launch --config_file examples/accelerate/fsdp2.yaml examples/train_stages.py \\
        --recipe examples/recipes/stage_1.5.yaml --model stage1 --dataset captions.jsonl --output_dir stage1.5

A recipe says what trains, the learning rate, the schedule, the images' resolution and the batch size of all processes
together, which gradient accumulation makes up; the command line overrides it. Those of FastVLM (arXiv 2412.13303,
section 4) are in `examples/recipes`, with the lines for several machines.
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
    PARTS,
    DataArguments,
    FastVLMDataCollator,
    build_vlm,
    explained_out_of_memory,
    parameter_groups,
    parse_with_recipe,
    prepare_dataset,
    recognised_layout,
    train,
    train_only,
    with_recipe,
)


@dataclass
class StageDataArguments(DataArguments):
    """With the defaults that large data sets from the web want."""

    max_length: int | None = field(default=8192, metadata={"help": "longest example in tokens, images included"})
    faulty_rows: str = field(default="skip", metadata={"help": "stop at rows that cannot be trained on, or skip them"})


@dataclass
class ScriptArguments:
    trains: list[str] = field(metadata={"help": f"parts that train: {', '.join(PARTS)}"})
    batch_size: int = field(metadata={"help": "of all processes and accumulated steps together"})
    resolution: int | None = field(default=None, metadata={"help": "side of the images; default the checkpoint's"})
    model: str | None = field(default=None, metadata={"help": "the FastVLM of the stage before"})
    encoder: str | None = field(default=None, metadata={"help": "instead of --model: anything with a FastViTHD"})
    decoder: str | None = field(default=None, metadata={"help": "instead of --model: a causal language model"})
    encoder_learning_rate: float | None = None
    projector_learning_rate: float | None = None
    decoder_learning_rate: float | None = None
    resume: bool = field(default=False, metadata={"help": "go on from the last whole checkpoint in --output_dir"})

    def __post_init__(self):
        if unknown := set(self.trains) - set(PARTS):
            raise ValueError(f"Unknown --trains {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
        if (self.model is None) == (self.encoder is None or self.decoder is None):
            raise ValueError("Give either --model, or both --encoder and --decoder.")


def main() -> None:
    recipe, arguments = with_recipe(sys.argv[1:])
    parser = HfArgumentParser((ScriptArguments, StageDataArguments, TrainingArguments))
    script, data, training = parse_with_recipe(parser, recipe, arguments)
    row_format = data.row_format  # options that cannot be are told first
    require(["accelerate", "datasets"], "train")
    set_seed(training.seed)
    at_once = training.per_device_train_batch_size * training.world_size
    training.gradient_accumulation_steps = math.ceil(script.batch_size / at_once)
    training.remove_unused_columns = False  # the collator reads them
    # Of streams, every process collates its own batches: images cannot be cut by rows.
    training.accelerator_config.dispatch_batches = False
    # Optimizers need weights in full precision; `--bf16` computes in bfloat16 all the same.
    if script.model is None:
        model, processor = build_vlm(script.encoder, script.decoder, script.resolution)
    else:
        model = load_model(script.model, dtype=torch.float32)
        size = {} if script.resolution is None else {"size": script.resolution}
        processor = AutoProcessor.from_pretrained(script.model, **size)
    resolution = processor.image_processor.get_resolution()
    train_only(model, script.trains)

    dataset = data.load()
    print(recognised_layout(dataset, row_format))
    dataset, report = prepare_dataset(dataset, processor, row_format, data.faulty_rows)
    if data.streaming:
        dataset = dataset.shuffle(seed=training.seed, buffer_size=1000)
    print(f"{report}; trains {', '.join(script.trains)} at {resolution}x{resolution}")

    rates = {part: getattr(script, f"{part}_learning_rate") for part in script.trains}
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
