# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""LoRA fine-tuning with TRL's `SFTTrainer`, on the same rows as `finetune_lora.py`.

    python examples/finetune_trl.py --model_name_or_path apple/FastVLM-0.5B --dataset my_folder/train.jsonl \\
        --use_peft --lora_target_modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj --output_dir adapter

`--load_in_4bit` is QLoRA over the decoder alone; `--config recipe.yaml` has options in a file.
"""

from dataclasses import dataclass, field

from transformers import AutoModelForImageTextToText, AutoProcessor

import transformers_fastvlm  # noqa: F401  (registers FastVLM with the Auto classes)
from transformers_fastvlm.extras import require
from transformers_fastvlm.programs.mistakes import mistakes_in_one_line


def main() -> None:
    require(["datasets", "peft", "trl"], "train")
    from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config, get_quantization_config

    from transformers_fastvlm.training import (
        DataArguments,
        FastVLMDataCollator,
        TrainingFacts,
        prepare_dataset,
        rows_for_trl,
        write_adapter_card,
    )

    @dataclass
    class RowArguments(DataArguments):
        max_length: int | None = field(default=None, init=False)  # TRL's trainer has an option of that name

    data, training, choice = TrlParser((RowArguments, SFTConfig, ModelConfig)).parse_args_and_config()
    training.max_length = None  # it would cut through images
    training.remove_unused_columns = False  # the collator reads them
    model = AutoModelForImageTextToText.from_pretrained(
        choice.model_name_or_path, dtype=choice.dtype, quantization_config=get_quantization_config(choice)
    )
    processor = AutoProcessor.from_pretrained(choice.model_name_or_path)
    rows, report = prepare_dataset(data.load(), processor, data.row_format, data.faulty_rows)
    print(report)
    trainer = SFTTrainer(
        model,
        training,
        FastVLMDataCollator(processor, data.row_format),  # loss on the assistant's turns alone
        train_dataset=rows_for_trl(rows),
        processing_class=processor,
        peft_config=get_peft_config(choice),
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model()
    settings = {"rank": choice.lora_r, "learning rate": training.learning_rate, "steps": trainer.state.global_step}
    results = {"train_loss": trainer.state.log_history[-1]["train_loss"]}
    facts = TrainingFacts(choice.model_name_or_path, data.dataset, settings, results, adapter=choice.use_peft)
    write_adapter_card(training.output_dir, facts)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
