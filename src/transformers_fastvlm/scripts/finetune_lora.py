# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""LoRA, QLoRA, full and preference fine-tuning of any FastVLM checkpoint on any data set with images.

    fastvlm finetune --model apple/FastVLM-0.5B --dataset my_folder/train.jsonl --output_dir adapter
    fastvlm finetune --model apple/FastVLM-0.5B --dataset HuggingFaceH4/llava-instruct-mix-vsft --output_dir adapter \\
        --load_in_4bit --bf16 --gradient_checkpointing --eval_metric anls
    accelerate launch -m transformers_fastvlm.scripts.finetune_lora --recipe recipe.yaml

Options, also in the YAML file of `--recipe`, are those of [`FinetuneArguments`], of [`DataArguments`], and of
transformers' `TrainingArguments`, or with `--method dpo` of TRL's `DPOConfig`.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset
from transformers import HfArgumentParser, set_seed

from ..evaluation.row_scores import row_score
from ..extras import require
from ..inference import load_model
from ..inference.model_loading import base_of
from ..processing_fastvlm import FastVLMProcessor
from ..programs.mistakes import mistakes_in_one_line
from ..training import (
    PARTS,
    DataArguments,
    FastVLMDataCollator,
    ImageFeatures,
    PreferenceCollator,
    RowAnswer,
    RowFormat,
    RowReport,
    TrainingFacts,
    explained_out_of_memory,
    lora_target_modules,
    require_isolation,
    rows_for_trl,
    train,
    train_only,
    write_adapter_card,
)
from ..training.answer_evaluation import AnswerEvaluation, read_answers, write_answers
from ..training.preferences import read_preference_row
from ..training.progress import draw_progress
from ..training.recipes import parse_with_recipe, read_recipe, with_recipe
from ..training.row_sets import RowSets, load_row_sets, with_replay
from ..training.rows import read_row
from .arguments import FinetuneArguments
from .sft import LEARNING_RATES, AnsweringTrainer, SftArguments

_MODULE = "transformers_fastvlm.scripts.finetune_lora"
# Answers to all evaluation rows, in the output folder.
_BEFORE, _AFTER = "answers_before.jsonl", "answers_after.jsonl"


def parse(arguments: Sequence[str]) -> tuple[FinetuneArguments, DataArguments, Any]:
    """
    The options of a command line and the recipe that it may name.

    Raises:
        FileNotFoundError, ValueError: if a value cannot be, or the recipe not be read.
        MissingLibraryError: if a library is not installed that is needed.
    """
    recipe, others = with_recipe(arguments)
    require(["accelerate", "datasets", "matplotlib", "peft"], "train")
    kinds: Any = (FinetuneArguments, DataArguments, _kinds(_method(recipe, others))[0])
    parser = HfArgumentParser(kinds)
    script, data, training = parse_with_recipe(parser, recipe, others)
    if training.learning_rate is None:
        training.learning_rate = LEARNING_RATES[_way(script)]
    if script.eval_metric and not training.names_best_metric:
        training.metric_for_best_model, training.greater_is_better = script.eval_metric, True
    return script, data, training


def _method(recipe: Path | None, arguments: list[str]) -> str | None:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--method")
    given = finder.parse_known_args(arguments)[0].method
    return given or (read_recipe(recipe).get("method") if recipe else None)


def _kinds(method: str | None) -> tuple[Any, Any]:
    """The arguments and the trainer of a method."""
    if method != "dpo":
        return SftArguments, AnsweringTrainer
    require(["trl"], "train", "--method dpo")
    from .dpo import AnsweringDpoTrainer, DpoArguments

    return DpoArguments, AnsweringDpoTrainer


def _way(script: FinetuneArguments) -> str:
    return "dpo" if script.method == "dpo" else "full" if script.full else "lora"


def load_trainable(script: FinetuneArguments, training: Any) -> tuple[Any, Any]:
    """The model to train, without its adapter yet, and the adapter's `LoraConfig`; `None` for all weights."""
    from peft import LoraConfig, prepare_model_for_kbit_training

    # Optimizers need weights in full precision; `--bf16` computes in bfloat16 all the same.
    dtype = torch.bfloat16 if training.bf16 and not script.full else torch.float32
    model = load_model(script.model, quantization="nf4" if script.load_in_4bit else None, dtype=dtype)
    if script.full:
        train_only(model, PARTS)
        return model, None
    if script.load_in_4bit:
        model = prepare_model_for_kbit_training(model, training.gradient_checkpointing)
    targets = lora_target_modules(model, projector=script.adapt_projector, encoder=script.adapt_encoder)
    scale: dict[str, Any] = {"r": script.rank, "lora_alpha": script.alpha, "lora_dropout": script.dropout}
    return model, LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **scale)


def load_rows(script: FinetuneArguments, data: DataArguments, processor: Any) -> RowSets:
    """The rows to train and to evaluate on, with those of `--replay` among the first."""
    kept: DataArguments | float = script.eval_fraction
    if script.eval_dataset is not None:
        kept = replace(data, dataset=script.eval_dataset, split=script.eval_split, streaming=False, max_samples=None)
    if script.method == "dpo" and data.streaming:
        raise ValueError("--method dpo is for rows that are not streamed.")
    read = read_preference_row if script.method == "dpo" else read_row
    sets = load_row_sets(data, processor, kept, read=read)
    if script.replay is None:
        return sets
    if script.method == "dpo":
        raise ValueError("--replay is for --method sft.")
    return replace(sets, train=with_replay(sets.train, script.replay, script.replay_share, data, processor))


def build_trainer(script: FinetuneArguments, training: Any, model: Any, adapter: Any, sets: RowSets, collator: Any):
    """`Trainer`, or TRL's `DPOTrainer`, around the model with its adapter."""
    kind = _kinds(script.method)[1]
    if script.method == "sft":
        from peft import get_peft_model

        if adapter is not None:
            model = get_peft_model(model, adapter)
            model.print_trainable_parameters()
        return kind(model, training, collator, train_dataset=sets.train, eval_dataset=sets.evaluation)
    reference = None if adapter is not None else load_model(script.model, dtype=torch.float32)
    return kind(
        model,
        reference,
        args=training,
        data_collator=collator,
        train_dataset=rows_for_trl(sets.train),
        eval_dataset=None if sets.evaluation is None else rows_for_trl(sets.evaluation),
        processing_class=collator.processor,
        peft_config=adapter,
    )


def prepare(script: FinetuneArguments, data: DataArguments, training: Any) -> tuple[Any, RowReport]:
    """
    A trainer with all that it needs, and the report on its rows.

    Raises:
        FileNotFoundError, ValueError: if the data or the model cannot be trained on or with.
    """
    row_format = data.row_format  # options that cannot be are told first
    score = row_score(script.eval_metric) if script.eval_metric else None
    set_seed(training.seed)
    size: dict[str, Any] = {} if script.resolution is None else {"size": script.resolution}
    processor: Any = FastVLMProcessor.from_pretrained(script.model, **size)
    sets = load_rows(script, data, processor)
    if sets.evaluation is None:
        if score is not None:
            raise ValueError("--eval_metric needs rows to evaluate on: name --eval_dataset.")
        training.eval_strategy = "no"
    model, adapter = load_trainable(script, training)
    if script.packing:
        require_isolation(model)
    kind = FastVLMDataCollator if script.method == "sft" else PreferenceCollator
    # Several GPUs in one process would share out the positions; smoothing wants all scores.
    whole = script.method == "dpo" or training.n_gpu > 1 or training.label_smoothing_factor > 0
    collator = kind(processor, row_format, packing=script.packing, learnt_positions_only=not whole)
    trainer = build_trainer(script, training, model, adapter, sets, collator)
    if score is not None and sets.evaluation is not None:
        trainer.answer_evaluation = AnswerEvaluation(
            metric=str(script.eval_metric),
            score=score,
            rows=sets.evaluation,
            processor=processor,
            row_format=row_format,
            batch_size=training.per_device_eval_batch_size,
            max_new_tokens=script.eval_new_tokens,
            limit=script.eval_samples,
        )
    if script.cache_features is not None:
        collator.features = cached_features(script, trainer, sets, processor, row_format)
    return trainer, sets.report


def cached_features(
    script: FinetuneArguments, trainer: Any, sets: RowSets, processor: Any, row_format: RowFormat
) -> ImageFeatures:
    """The features of all images of the rows, encoded as far as they were not before."""
    if not hasattr(sets.train, "__len__"):
        raise ValueError("--cache_features is for rows that are not streamed.")
    encoder = base_of(trainer.accelerator.unwrap_model(trainer.model)).model.vision_tower
    features = ImageFeatures(str(script.cache_features), encoder, processor, script.cache_gigabytes)
    rows: Any = sets.train if sets.evaluation is None else ConcatDataset([sets.train, sets.evaluation])
    count = features.fill(rows, encoder, row_format)
    print(f"features: {count} images encoded, all others were in {script.cache_features}")
    return features


def finetune(script: FinetuneArguments, data: DataArguments, training: Any, command: str | None = None) -> None:
    """
    Train, and leave the adapter or the model with its processor, a card, and a picture of the course.

    Args:
        command: that asked for it, for the card.

    Raises:
        FileNotFoundError, ValueError: if the data or the model cannot be trained on or with; before a step is done.
        MemoryError: if memory ran out; it says what needs less.
    """
    trainer, report = prepare(script, data, training)
    evaluation = trainer.answer_evaluation
    resolution = trainer.data_collator.processor.image_processor.get_resolution()
    bits = 4 if script.load_in_4bit else 32
    before: list[RowAnswer] = []
    with explained_out_of_memory(training.train_batch_size, resolution, training.gradient_checkpointing, bits):
        if evaluation is not None and script.full:
            before = answers_of_untrained(trainer, script.resume)
        train(trainer, script.resume)
        if data.streaming:  # the rows of a stream are checked as they are read
            print(f"train, as process {training.process_index} read it: {report}")
        if evaluation is not None:
            trainer.answer_evaluation = replace(evaluation, limit=None)
            if not script.full:
                with trainer.accelerator.unwrap_model(trainer.model).disable_adapter():
                    before = evaluation.answers(trainer.accelerator.unwrap_model(trainer.model))
        metrics = trainer.evaluate() if trainer.eval_dataset is not None else {}
    trainer.save_model()
    trainer.save_state()  # the model card's training facts
    if trainer.is_world_process_zero():
        leave(script, data, trainer, metrics, before, command)


def answers_of_untrained(trainer: Any, resume: bool) -> list[RowAnswer]:
    """Answers to all rows before the first step, kept in the output folder for a run that goes on."""
    path = Path(trainer.args.output_dir) / _BEFORE
    if resume and path.is_file():
        return read_answers(path)
    answers = trainer.answer_evaluation.answers(trainer.accelerator.unwrap_model(trainer.model))
    if trainer.is_world_process_zero():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_answers(answers, path)
    return answers


def leave(
    script: FinetuneArguments,
    data: DataArguments,
    trainer: Any,
    metrics: dict[str, float],
    before: list[RowAnswer],
    command: str | None,
) -> None:
    """Write what goes with the weights: processor, picture, card, and the answers to the evaluation rows."""
    folder, training = Path(trainer.args.output_dir), trainer.args
    trainer.data_collator.processor.save_pretrained(folder)
    known: dict[str, float] = {}
    metric = f"eval_{script.eval_metric}"
    if before:
        write_answers(before, folder / _BEFORE)
        write_answers(trainer.last_answers, folder / _AFTER)
        known = {metric: trainer.answer_evaluation.score(before)}
        course = f"{known[metric]:.3f} before, {metrics[metric]:.3f} after"
        print(f"{script.eval_metric} of {len(before)} rows: {course}")
    title = f"{Path(script.model).name} on {Path(data.dataset).name}"
    picture = draw_progress(trainer.state.log_history, folder / "loss.png", title, script.eval_metric)
    adapter = {} if script.full else {"rank": script.rank, "alpha": script.alpha, "4-bit weights": script.load_in_4bit}
    settings = {"method": script.method, **adapter, "learning rate": training.learning_rate}
    facts = TrainingFacts(
        base_model=script.model,
        dataset=data.dataset,
        settings=settings | {"steps": trainer.state.global_step},
        results={name: value for name, value in metrics.items() if name in ("eval_loss", *known)},
        before=known,
        command=command,
        picture=picture.name,
        adapter=not script.full,
    )
    write_adapter_card(folder, facts)
    print(f"The {'model' if script.full else 'adapter'} is in {folder}, its course in {picture}.")


def main(arguments: Sequence[str] | None = None, command: str | None = None) -> None:
    """
    Args:
        arguments: of the command line; by default this process's.
        command: what the card says was typed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    finetune(*parse(given), command or shlex.join(["python", "-m", _MODULE, *given]))


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
