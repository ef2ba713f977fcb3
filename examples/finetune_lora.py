# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""LoRA and QLoRA fine-tuning of any FastVLM checkpoint on any chat data set with images.

    python examples/finetune_lora.py --model apple/FastVLM-0.5B --dataset my_folder/train.jsonl --output_dir adapter
    python examples/finetune_lora.py --model apple/FastVLM-0.5B --dataset HuggingFaceH4/llava-instruct-mix-vsft \\
        --output_dir adapter --load_in_4bit --bf16 --gradient_checkpointing

A data set is a file, a folder or a Hub id, in one of the layouts of docs/fine-tuning.md, which is recognised. All of
transformers' `TrainingArguments` are options, too. `--resume` goes on where a killed run stopped.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from transformers import AutoProcessor, HfArgumentParser, Trainer, TrainingArguments, set_seed

from transformers_fastvlm.extras import require
from transformers_fastvlm.inference import load_model
from transformers_fastvlm.programs.mistakes import mistakes_in_one_line
from transformers_fastvlm.training import (
    DataArguments,
    FastVLMDataCollator,
    RowFormat,
    explained_out_of_memory,
    lora_target_modules,
    prepare_dataset,
    recognised_layout,
    train,
    write_adapter_card,
)


@dataclass
class ScriptArguments:
    model: str = field(metadata={"help": "folder or Hub id of a FastVLM checkpoint"})
    eval_dataset: str | None = field(default=None, metadata={"help": "by default a part of the data set"})
    eval_split: str = field(default="train", metadata={"help": "of --eval_dataset"})
    eval_fraction: float = field(default=0.05, metadata={"help": "kept for evaluation without --eval_dataset"})
    resolution: int | None = field(default=None, metadata={"help": "side of the images; default the checkpoint's"})
    load_in_4bit: bool = field(default=False, metadata={"help": "QLoRA: the decoder's weights in NF4"})
    rank: int = field(default=16, metadata={"help": "of the adapter"})
    alpha: int = field(default=32, metadata={"help": "the adapter's scale is alpha / rank"})
    dropout: float = 0.05
    adapt_projector: bool = field(default=False, metadata={"help": "besides the decoder"})
    adapt_encoder: bool = field(default=False, metadata={"help": "the encoder's attention, besides the decoder"})
    resume: bool = field(default=False, metadata={"help": "go on from the last whole checkpoint in --output_dir"})


@dataclass
class LoraTrainingArguments(TrainingArguments):
    """transformers' arguments with the defaults that LoRA wants."""

    output_dir: str = "adapter"
    learning_rate: float = 2e-4
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.03
    num_train_epochs: float = 1
    logging_steps: float = 10
    eval_strategy: str = "steps"
    eval_steps: float | None = 100
    save_steps: float = 100
    save_total_limit: int | None = 2
    report_to: str | None = "none"
    remove_unused_columns: bool = False  # the collator reads them
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])
    # Of streams, every process collates its own batches: images cannot be cut by rows.
    accelerator_config: dict | str | None = field(default_factory=lambda: {"dispatch_batches": False})


def load_trainable(script: ScriptArguments, training: TrainingArguments):
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    dtype = torch.bfloat16 if training.bf16 else torch.float32
    model = load_model(script.model, quantization="nf4" if script.load_in_4bit else None, dtype=dtype)
    if script.load_in_4bit:
        model = prepare_model_for_kbit_training(model, training.gradient_checkpointing)
    targets = lora_target_modules(model, projector=script.adapt_projector, encoder=script.adapt_encoder)
    scale = {"r": script.rank, "lora_alpha": script.alpha, "lora_dropout": script.dropout}
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **scale))
    model.print_trainable_parameters()
    return model


def load_data(script: ScriptArguments, data: DataArguments, processor, row_format: RowFormat):
    sets = {"train": data.load()}
    if script.eval_dataset is not None:
        sets["eval"] = replace(data, dataset=script.eval_dataset, split=script.eval_split, streaming=False).load()
    elif not data.streaming:
        parts = sets["train"].train_test_split(script.eval_fraction, seed=0)
        sets = {"train": parts["train"], "eval": parts["test"]}
    reports = {}
    for name, dataset in sets.items():
        print(f"{name}: {recognised_layout(dataset, row_format)}")
        sets[name], report = prepare_dataset(dataset, processor, row_format, data.faulty_rows)
        reports[name] = report
        if name == "eval" or not data.streaming:
            print(f"{name}: {report}")
    if data.streaming:
        sets["train"] = sets["train"].shuffle(seed=0, buffer_size=1000)
    return sets["train"], sets.get("eval"), reports["train"]


def draw_losses(history: list[dict], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for key, label in (("loss", "training"), ("eval_loss", "evaluation")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points), label=label, marker="." if len(points) < 30 else None)
    axes.set(xlabel="step", ylabel="loss per token of the answers", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = HfArgumentParser((ScriptArguments, DataArguments, LoraTrainingArguments))
    script, data, training = parser.parse_args_into_dataclasses()
    require(["accelerate", "datasets", "matplotlib", "peft"], "train")
    row_format = data.row_format  # options that cannot be are told first
    set_seed(training.seed)
    size = {} if script.resolution is None else {"size": script.resolution}
    processor = AutoProcessor.from_pretrained(script.model, **size)
    train_set, eval_set, report = load_data(script, data, processor, row_format)
    if eval_set is None:
        training.eval_strategy = "no"
    model = load_trainable(script, training)
    collator = FastVLMDataCollator(processor, row_format)
    trainer = Trainer(model, training, collator, train_dataset=train_set, eval_dataset=eval_set)
    resolution = processor.image_processor.get_resolution()
    bits = 4 if script.load_in_4bit else 32
    with explained_out_of_memory(training.train_batch_size, resolution, training.gradient_checkpointing, bits):
        train(trainer, script.resume)
        if data.streaming:  # the rows of a stream are checked as they are read
            print(f"train, as process {training.process_index} read it: {report}")
        metrics = trainer.evaluate() if eval_set is not None else {}
    trainer.save_model()
    trainer.save_state()  # the model card's training facts
    if trainer.is_world_process_zero():
        folder = Path(training.output_dir)
        processor.save_pretrained(folder)
        draw_losses(trainer.state.log_history, folder / "loss.png")
        settings = {"rank": script.rank, "alpha": script.alpha, "learning rate": training.learning_rate}
        settings |= {"steps": trainer.state.global_step, "4-bit weights": script.load_in_4bit}
        write_adapter_card(folder, script.model, data.dataset, settings, metrics)
        print(f"The adapter is in {folder}, its losses in {folder / 'loss.png'}.")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
