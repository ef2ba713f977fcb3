# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled tiny FastVLM, which reads printed words, from nothing, on two CPU cores.

    torchrun --nproc_per_node 2 examples/tiny_reader/train_tiny_reader.py --output_dir checkpoints/tiny-reader

One process per core; with a GPU, plain `python` and more `--workers`. Needs the `train` extra; scikit-image,
scikit-learn and matplotlib for the photographs that come inside them; and the fonts that `tiny_reader_data.py` lists.
`--work_dir` keeps the training state; `--resume` continues from there. `--smoke` runs everything in a minute, to see
that it works; that model reads nothing.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from torch.utils.data import Dataset, SequentialSampler
from transformers import Qwen2Tokenizer, Trainer, TrainerCallback, TrainingArguments, set_seed

from figures import write_table
from tiny_reader_data import (
    HELD_OUT_FONTS,
    MAX_WORD_LENGTH,
    TRAINING_FONTS,
    Renderer,
    Sample,
    find_fonts,
    find_photographs,
)
from tiny_reader_model import Collator, TinyReaderForTraining, build_config, build_tokenizer
from transformers_fastvlm import FastVLMForConditionalGeneration, FastVLMImageProcessorPil, FastVLMProcessor
from transformers_fastvlm.programs.mistakes import at_least, mistakes_in_one_line
from transformers_fastvlm.training import train


class RenderedDataset(Dataset):
    """Sample `i` is drawn from seed `i`; the first `easy` samples grow from short, large words to the full task."""

    def __init__(self, renderer: Renderer, length: int, seed: str, easy: int = 0):
        self.renderer, self.length, self.seed, self.easy = renderer, length, seed, easy

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index >= self.length:
            raise IndexError(index)
        difficulty = min(1.0, index / self.easy) if self.easy else 1.0
        return self.renderer.render(f"{self.seed}{index}", difficulty)


class ReaderTrainer(Trainer):
    """Keeps the samples in order, for the difficulty to rise, and logs the parts of the loss."""

    parts: dict[str, float] = {}

    def _get_train_sampler(self, *args, **kwargs):
        return SequentialSampler(self.train_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs = model(**inputs)
        for name, value in outputs.items():
            if name != "loss":
                self.parts[name] = round(0.95 * self.parts.get(name, value.item()) + 0.05 * value.item(), 4)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs, *args, **kwargs):
        super().log(logs | self.parts if "loss" in logs else logs, *args, **kwargs)


@torch.no_grad()
def exact_match(vlm: FastVLMForConditionalGeneration, collator: Collator, samples: list[Sample]) -> float:
    """Share of samples whose greedy answer equals the truth, character for character."""
    vlm.eval()
    by_question: dict[int, list[Sample]] = {}
    for sample in samples:  # prompts of one length need no padding
        by_question.setdefault(len(collator.prompt(sample.question)), []).append(sample)
    correct = 0
    for group in by_question.values():
        for start in range(0, len(group), 100):
            batch = group[start : start + 100]
            prompts = torch.tensor([collator.prompt(sample.question) for sample in batch], device=vlm.device)
            answers = vlm.generate(
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                pixel_values=collator.pixels(batch).to(vlm.device),
                max_new_tokens=MAX_WORD_LENGTH + 1,
                do_sample=False,
            )
            texts = collator.tokenizer.batch_decode(answers[:, prompts.shape[1] :], skip_special_tokens=True)
            correct += sum(text == sample.answer for text, sample in zip(texts, batch))
    return correct / len(samples)


def evaluation_sets(size: int, count: int) -> dict[str, list[Sample]]:
    """Held-out samples by name. Words of two and more characters never occurred in training."""
    fonts, new_fonts = find_fonts(TRAINING_FONTS), find_fonts(HELD_OUT_FONTS)
    photographs, new_photographs = find_photographs(held_out=False), find_photographs(held_out=True)
    word = {"held_out_words": True, "reading_fraction": 1.0}
    renderers = {
        "new words": Renderer(size, fonts, photographs, **word),
        "new words, new photographs": Renderer(size, fonts, new_photographs, **word, photograph_fraction=1.0),
        "shapes, new photographs": Renderer(size, fonts, new_photographs, reading_fraction=0.0),
    }
    if new_fonts:
        renderers["new words, new font"] = Renderer(size, new_fonts, photographs, **word)
        renderers["new words, new font, new photographs"] = Renderer(
            size, new_fonts, new_photographs, **word, photograph_fraction=1.0
        )
    sets = {}
    for name, renderer in renderers.items():
        samples = [renderer.render(f"evaluation {name} {index}") for index in range(count)]
        if name.startswith("shapes"):
            sets["counting, new photographs"] = [sample for sample in samples if sample.answer.isdigit()]
            sets["colours, new photographs"] = [sample for sample in samples if not sample.answer.isdigit()]
        else:
            sets[name] = samples
    return sets


class Progress(TrainerCallback):
    """Prints exact match on a few held-out samples now and then."""

    def __init__(self, sets: dict[str, list[Sample]], collator: Collator, every: int, count: int = 100):
        self.sets, self.collator, self.every, self.count = sets, collator, every, count
        self.start = time.time()

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every or not state.is_world_process_zero:
            return
        scores = {name: exact_match(model.vlm, self.collator, s[: self.count]) for name, s in self.sets.items()}
        model.train()
        minutes = (time.time() - self.start) / 60
        print(f"step {state.global_step}, {minutes:.1f} min:", json.dumps(scores), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output_dir", type=Path, help="train; the checkpoint goes here")
    what.add_argument("--evaluate", type=Path, metavar="FOLDER", help="only print the scores of a bundle")
    parser.add_argument("--work_dir", type=Path, default=Path("tiny-reader-training"), help="training state")
    parser.add_argument(
        "--encoder_samples", type=at_least(1), default=150_000, help="stage 1: the encoder with its heads"
    )
    parser.add_argument("--samples", type=at_least(1), default=300_000, help="stage 2: everything")
    parser.add_argument(
        "--decay_samples", type=at_least(0), default=150_000, help="last ones, where the rate falls to 0"
    )
    parser.add_argument(
        "--easy_samples", type=at_least(0), default=60_000, help="first ones, where the difficulty rises"
    )
    parser.add_argument(
        "--encoder_batch_size", type=at_least(1), default=64, help="stage 1, of all processes together"
    )
    parser.add_argument("--batch_size", type=at_least(1), default=32, help="stage 2, of all processes together")
    parser.add_argument("--learning_rate", type=float, default=1.5e-3)
    parser.add_argument("--workers", type=at_least(0), default=1, help="rendering processes per training process")
    parser.add_argument("--image_size", type=at_least(1), default=192)
    parser.add_argument("--evaluation_samples", type=at_least(1), default=1000, help="per held-out set")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--start_from", type=Path, help="a bundle whose weights to improve, in the inference form")
    parser.add_argument("--resume", action="store_true", help="continue from the last state in --work_dir")
    parser.add_argument("--json", type=Path, help="with --evaluate: write the table to this file")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.encoder_samples, arguments.samples, arguments.decay_samples = 80, 80, 40
        arguments.encoder_batch_size, arguments.batch_size, arguments.evaluation_samples = 16, 8, 8
        arguments.easy_samples = 0
    return arguments


def training_arguments(arguments: argparse.Namespace, stage: str, batch_size: int, **kwargs) -> TrainingArguments:
    """What both stages share. The rate stays constant until the decay, so that a run can be prolonged."""
    return TrainingArguments(
        output_dir=str(arguments.work_dir / stage),
        per_device_train_batch_size=batch_size // int(os.environ.get("WORLD_SIZE", "1")),
        num_train_epochs=1,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="warmup_stable_decay",
        warmup_steps=1 if arguments.smoke else 200,
        weight_decay=0.05,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        logging_steps=5 if arguments.smoke else 100,
        save_steps=5 if arguments.smoke else 500,
        save_total_limit=2,
        dataloader_num_workers=arguments.workers,
        dataloader_prefetch_factor=4,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        seed=arguments.seed,
        **kwargs,
    )


def train_stage(
    arguments: argparse.Namespace,
    stage: str,
    model: TinyReaderForTraining,
    dataset: Dataset,
    collator: Collator,
    batch_size: int,
    decay_samples: int = 0,
    callbacks: list[TrainerCallback] | None = None,
) -> Trainer:
    """Runs one stage, or what is left of it after `--resume`."""
    decay = {"num_decay_steps": decay_samples // batch_size, "decay_type": "cosine"}
    trainer = ReaderTrainer(
        model=model,
        args=training_arguments(arguments, stage, batch_size, lr_scheduler_kwargs=decay),
        train_dataset=dataset,
        data_collator=collator,
        callbacks=callbacks,
    )
    train(trainer, arguments.resume)
    return trainer


def write_bundle(vlm: FastVLMForConditionalGeneration, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Writes the inference form and its processor. Stored in bfloat16, to be small; loaded in float32, to be exact."""
    vlm.cpu().eval().reparameterize().to(torch.bfloat16).save_pretrained(folder)
    config_file = folder / "config.json"
    config_file.write_text(config_file.read_text().replace('"dtype": "bfloat16"', '"dtype": "float32"'))
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.padding_side = "left"
    tokenizer.model_max_length = vlm.config.text_config.max_position_embeddings
    image_processor = FastVLMImageProcessorPil(size=vlm.config.vision_config.image_size)
    FastVLMProcessor(image_processor, tokenizer).save_pretrained(folder)


def print_scores(
    folder: Path, sets: dict[str, list[Sample]], collator: Collator, json_path: Path | None = None
) -> None:
    vlm = FastVLMForConditionalGeneration.from_pretrained(folder)
    rows = []
    for name, samples in sets.items():
        rows.append([name, len(samples), f"{exact_match(vlm, collator, samples):.1%}"])
        print(*rows[-1], sep=" | ", flush=True)
    if json_path is not None:
        write_table(json_path, ["held-out set", "samples", "exact match"], rows)


def main() -> None:
    arguments = parse_arguments()
    for folder in (arguments.evaluate, arguments.start_from):
        if folder is not None and not (folder / "config.json").is_file():
            raise FileNotFoundError(f"There is no checkpoint in {folder}.")
    if arguments.output_dir is not None:
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
    set_seed(arguments.seed)
    if not torch.cuda.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # else torchrun's processes would look for GPUs
    torch.set_flush_denormal(True)
    fonts = find_fonts(TRAINING_FONTS)
    photographs = find_photographs(held_out=False)
    print(f"{len(fonts)} of {len(TRAINING_FONTS)} fonts, {len(photographs)} photographs")

    tokenizer = build_tokenizer()
    sets = evaluation_sets(arguments.image_size, arguments.evaluation_samples)
    collator = Collator(tokenizer, arguments.image_size)
    if arguments.evaluate is not None:
        print_scores(arguments.evaluate, sets, collator, arguments.json)
        return
    config = build_config(tokenizer, arguments.image_size, reparameterized=arguments.start_from is not None)
    model = TinyReaderForTraining(config)
    if arguments.start_from is not None:
        model.start_from(arguments.start_from)
    print(f"{sum(p.numel() for p in model.vlm.parameters()) / 1e6:.2f} M parameters, {len(tokenizer)} tokens")

    renderer = Renderer(
        arguments.image_size, fonts, photographs, reading_fraction=0.75, font_sizes=(0.12, 0.45), max_words=2
    )
    dataset = RenderedDataset(renderer, arguments.encoder_samples, "encoder ", arguments.easy_samples)
    model.train_decoder(False)
    train_stage(arguments, "encoder", model, dataset, collator, arguments.encoder_batch_size)

    renderer = Renderer(arguments.image_size, fonts, photographs, reading_fraction=0.75)
    dataset = RenderedDataset(renderer, arguments.samples, "everything ")
    model.train_decoder(True)
    progress = Progress(sets, collator, every=500)
    trainer = train_stage(
        arguments, "everything", model, dataset, collator, arguments.batch_size, arguments.decay_samples, [progress]
    )
    if not trainer.is_world_process_zero():
        return

    write_bundle(model.vlm, tokenizer, arguments.output_dir)
    print_scores(arguments.output_dir, sets, collator)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
