# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""LoRA with `Trainer` and PEFT in plain sight, to copy and to change.

    python examples/finetune_lora.py --model apple/FastVLM-0.5B --dataset my_folder/train.jsonl --output_dir adapter

All of `TrainingArguments` are options. `fastvlm finetune` has what is around it: QLoRA, DPO, answers scored while it
trains, features that are encoded once, going on after a kill.
"""

from dataclasses import dataclass, field

from transformers import AutoProcessor, HfArgumentParser, Trainer, TrainingArguments

from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.extras import require
from transformers_fastvlm.programs.mistakes import mistakes_in_one_line
from transformers_fastvlm.training import (
    DataArguments,
    FastVLMDataCollator,
    lora_target_modules,
    prepare_dataset,
    recognised_layout,
)


@dataclass
class ScriptArguments:
    model: str = field(metadata={"help": "folder or Hub id of a FastVLM checkpoint"})
    rank: int = field(default=16, metadata={"help": "of the adapter"})


def main() -> None:
    require(["accelerate", "datasets", "peft"], "train")
    from peft import LoraConfig, get_peft_model

    parser = HfArgumentParser((ScriptArguments, DataArguments, TrainingArguments))
    script, data, training = parser.parse_args_into_dataclasses()
    training.remove_unused_columns = False  # the collator reads them

    model = AutoModelForVision2Seq.from_pretrained(script.model, dtype="float32")
    processor = AutoProcessor.from_pretrained(script.model)
    adapter = LoraConfig(r=script.rank, lora_alpha=2 * script.rank, target_modules=lora_target_modules(model))
    model = get_peft_model(model, adapter)

    rows = data.load()
    print(recognised_layout(rows, data.row_format))
    rows, report = prepare_dataset(rows, processor, data.row_format, data.faulty_rows)
    print(report)
    collator = FastVLMDataCollator(processor, data.row_format)  # loss on the assistant's turns alone

    trainer = Trainer(model, training, collator, train_dataset=rows)
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model()
    processor.save_pretrained(training.output_dir)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
