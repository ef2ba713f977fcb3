# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""LoRA fine-tuning with TRL's `SFTTrainer`; of ours it takes no more than the import.

    python examples/finetune_trl.py --model_name_or_path apple/FastVLM-0.5B --dataset_name my_folder \\
        --use_peft --lora_target_modules q_proj k_proj v_proj o_proj gate_proj up_proj down_proj --output_dir adapter

The data set has the columns `messages` and `images`; TRL itself puts the images before the first question, unless
contents are lists of parts that say where they are. `--load_in_4bit` is QLoRA over the decoder alone.
"""

from transformers import AutoModelForImageTextToText, AutoProcessor

import transformers_fastvlm  # noqa: F401  (registers FastVLM with the Auto classes)
from transformers_fastvlm.extras import require
from transformers_fastvlm.programs.mistakes import mistakes_in_one_line


def main() -> None:
    require(["datasets", "peft", "trl"], "train")
    from datasets import load_dataset
    from trl import (
        ModelConfig,
        ScriptArguments,
        SFTConfig,
        SFTTrainer,
        TrlParser,
        get_peft_config,
        get_quantization_config,
    )

    script, training, choice = TrlParser((ScriptArguments, SFTConfig, ModelConfig)).parse_args_and_config()
    training.assistant_only_loss = True
    training.max_length = None  # TRL would cut through images
    quantization = get_quantization_config(choice)
    model = AutoModelForImageTextToText.from_pretrained(
        choice.model_name_or_path, dtype=choice.dtype, quantization_config=quantization
    )
    processor = AutoProcessor.from_pretrained(choice.model_name_or_path)
    data = load_dataset(script.dataset_name, name=script.dataset_config)
    trainer = SFTTrainer(
        model,
        training,
        train_dataset=data[script.dataset_train_split],
        eval_dataset=data.get(script.dataset_test_split) if training.eval_strategy != "no" else None,
        processing_class=processor,
        peft_config=get_peft_config(choice),
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model()


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
