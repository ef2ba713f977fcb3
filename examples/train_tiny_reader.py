# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled tiny FastVLM, which reads printed words, from nothing, on two CPU cores.

    torchrun --nproc_per_node 2 examples/train_tiny_reader.py --output_dir checkpoints/tiny-reader

One process per core; with a GPU, plain `python` and more `--workers`. Needs the `train` extra; scikit-image,
scikit-learn and matplotlib for the photographs that come inside them; and the fonts that `tiny_reader_data.py` lists.
`--work_dir` keeps the training state; `--resume` continues from there. `--smoke` runs everything in a minute, to see
that it works; that model reads nothing.
"""

import argparse
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import Qwen2Config, Qwen2Tokenizer, Trainer, TrainerCallback, TrainingArguments, set_seed

from tiny_reader_data import (
    ALPHABET,
    COLOUR_QUESTION,
    COLOURS,
    COUNT_QUESTION,
    HELD_OUT_FONTS,
    MAX_WORD_LENGTH,
    READING_QUESTION,
    SHAPES,
    TRAINING_FONTS,
    Renderer,
    Sample,
    find_fonts,
    find_photographs,
)
from transformers_fastvlm import (
    FastViTHDConfig,
    FastViTHDModel,
    FastVLMConfig,
    FastVLMForConditionalGeneration,
    FastVLMImageProcessorPil,
    FastVLMProcessor,
)

PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{images}\n{question}<|im_end|>\n<|im_start|>assistant\n"
)
IMAGE_TOKEN = "<image>"
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", IMAGE_TOKEN]
NO_LOSS = -100
MARKS = (*ALPHABET, *SHAPES)
NOTHING = len(MARKS)


def build_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's byte-level BPE with merges for the prompts' words alone, so that answers are spelt by character."""
    questions = [READING_QUESTION]
    questions += [question.format(kind=kind) for question in (COUNT_QUESTION, COLOUR_QUESTION) for kind in SHAPES]
    text = [PROMPT.format(images="", question=question) for question in questions] + list(COLOURS)
    pattern = "|".join(re.escape(token) for token in SPECIAL_TOKENS)
    pieces = [piece for line in text for piece in re.split(pattern, line) if piece]
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        pieces, vocab_size=1000, new_special_tokens=SPECIAL_TOKENS, min_frequency=1, show_progress=False
    )
    return tokenizer


def build_config(tokenizer: Qwen2Tokenizer, size: int) -> FastVLMConfig:
    """About 3 M parameters; the encoder in its training form."""
    vision = FastViTHDConfig(
        image_size=size,
        depths=[1, 1, 3, 1, 1],
        hidden_sizes=[16, 48, 192, 192, 192],
        # Attention from stage 3 on: a character's place in its word depends on all characters before it.
        token_mixers=["repmixer", "repmixer", "attention", "attention", "attention"],
        mlp_ratio=3.0,
        projection_dim=None,
        layer_scale_init_value=0.5,
        reparameterized=False,
    )
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        eos_token_id=end,
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    return FastVLMConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        tie_word_embeddings=False,
    )


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


@dataclass
class Collator:
    """Turns samples into model inputs, equal to what `FastVLMProcessor` makes of the same image and question.

    Also gives the targets of the auxiliary losses, on a grid of 8x8 pixel cells: `cells` `(batch, R/8, R/8)`, the
    character or shape whose centre lies in the cell, and `orders`, of the same shape, its place in the word; both at
    once in `places` `(batch, 8, R/16, R/16)`, the character with a given place in the word if it lies in a 16x16 cell.
    """

    tokenizer: Qwen2Tokenizer
    size: int
    stride: int = 64

    def __post_init__(self):
        self.tokens = (self.size // self.stride) ** 2
        self.prompts: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids

    def prompt(self, question: str) -> list[int]:
        if question not in self.prompts:
            self.prompts[question] = self.ids(PROMPT.format(images=IMAGE_TOKEN * self.tokens, question=question))
        return self.prompts[question]

    def pixels(self, samples: list[Sample]) -> torch.Tensor:
        images = torch.from_numpy(np.stack([np.asarray(sample.image) for sample in samples]))
        return images.permute(0, 3, 1, 2).float() / 255  # (batch, 3, R, R), channels last in memory

    def __call__(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        prompts = [self.prompt(sample.question) for sample in samples]
        answers = self.tokenizer([sample.answer + "<|im_end|>" for sample in samples]).input_ids
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers))
        shape = len(samples), longest
        input_ids = np.full(shape, self.tokenizer.convert_tokens_to_ids("<|endoftext|>"))
        labels = np.full(shape, NO_LOSS)
        cells = np.full((len(samples), self.size // 8, self.size // 8), NOTHING)
        orders = np.full_like(cells, NO_LOSS)
        places = np.full((len(samples), MAX_WORD_LENGTH, self.size // 16, self.size // 16), NOTHING)
        for row, (sample, prompt, answer) in enumerate(zip(samples, prompts, answers)):
            end = len(prompt) + len(answer)
            input_ids[row, :end] = prompt + answer
            labels[row, len(prompt) : end] = answer
            if len(sample.marks) > len(sample.answer) and sample.question == READING_QUESTION:
                places[row] = NO_LOSS  # several words: each place is taken more than once
            for mark, x, y, place in sample.marks:
                cell = row, min(int(y) // 8, cells.shape[1] - 1), min(int(x) // 8, cells.shape[2] - 1)
                cells[cell] = MARKS.index(mark)
                if place >= 0:
                    orders[cell] = place
                if place >= 0 and places[row, 0, 0, 0] != NO_LOSS:
                    places[row, place, cell[1] // 2, cell[2] // 2] = MARKS.index(mark)
        # No attention mask: padding is on the right and every position looks only to the left.
        arrays = {"input_ids": input_ids, "labels": labels, "cells": cells, "orders": orders, "places": places}
        return {"pixel_values": self.pixels(samples)} | {name: torch.from_numpy(a) for name, a in arrays.items()}


@torch.no_grad()
def start_as_pooling(encoder: FastViTHDModel) -> None:
    """Lets what stage 3 knows pass through the rest: each position starts as the sum of the 2x2 positions it covers.

    From a random start, the later stages take longer to find this than all the rest of the training.
    """
    for stage in encoder.stages[3:]:
        pooling = stage.downsampling.large_kernel
        pooling.small_branch.conv.weight[:, :, 1:, 1:] = 1.0  # with stride 2: the window's four positions
        pooling.small_branch.conv.weight[:, :, 0] = 0.0
        pooling.small_branch.conv.weight[:, :, :, 0] = 0.0
        for branch in (pooling.large_branch, stage.downsampling.pointwise.conv_branch):
            nn.init.constant_(branch.norm.weight, 0.1)
        stage.position_encoding.conv_branch.weight *= 0.1
        for block in stage.blocks:
            nn.init.constant_(block.layer_scale_1, 0.1)
            nn.init.constant_(block.layer_scale_2, 0.1)
    final = encoder.final_conv
    nn.init.constant_(final.conv_branch.norm.weight, 0.1)
    # Two outputs per channel, one of either sign, of which the activation lets the positive one through.
    nn.init.constant_(final.scale_branch.conv.weight[0::2], 1.0)
    nn.init.constant_(final.scale_branch.conv.weight[1::2], -1.0)


class TinyReaderForTraining(nn.Module):
    """The VLM with auxiliary heads on its encoder, which are thrown away at the end.

    Next-token prediction alone teaches an untrained encoder very slowly. FastVLM starts from an encoder pre-trained on
    image-text pairs (arXiv 2412.13303, section 4). Here, its place is taken by naming, from stage 3, the character or
    shape in each cell and its place in the word; and from stages 3, 4 and the final feature map, both together: which
    character has the first, second, ... place of the word, if that lies in the position's window.
    """

    def __init__(self, config: FastVLMConfig):
        super().__init__()
        self.vlm = FastVLMForConditionalGeneration(config)
        self.encoder_only = False
        # Trained along from the start, these gates shut within a hundred steps, and all learning behind them stops.
        gates = self.vlm.model.vision_tower.final_conv.squeeze_excite
        nn.init.normal_(gates.expand.weight, std=0.01)
        nn.init.constant_(gates.expand.bias, 2.0)
        gates.requires_grad_(False)
        start_as_pooling(self.vlm.model.vision_tower)
        vision = config.vision_config
        classes = len(MARKS) + 1
        # A position of stage 3 covers 2x2 cells.
        self.cell_head = nn.Conv2d(vision.hidden_sizes[2], 4 * classes, 1)
        self.order_head = nn.Conv2d(vision.hidden_sizes[2], 4 * MAX_WORD_LENGTH, 1)
        widths = [*vision.hidden_sizes[2:4], vision.hidden_size]
        self.place_heads = nn.ModuleList(nn.Conv2d(width, MAX_WORD_LENGTH * classes, 1) for width in widths)
        weight = torch.ones(classes)
        weight[NOTHING] = 0.02  # most cells and places are empty
        self.register_buffer("cell_weight", weight, persistent=False)

    def train_decoder(self, wanted: bool) -> None:
        """Whether the decoder takes part; without it, the encoder learns from its heads alone, and faster."""
        self.encoder_only = not wanted
        for module in (self.vlm.model.multi_modal_projector, self.vlm.model.language_model, self.vlm.lm_head):
            module.requires_grad_(wanted)

    def forward(self, pixel_values, input_ids, labels, cells, orders, places) -> dict[str, torch.Tensor]:
        if self.encoder_only:
            encoded = self.vlm.model.vision_tower(pixel_values, output_hidden_states=True)
        else:
            encoded = self.vlm.get_image_features(pixel_values, output_hidden_states=True)
        cross_entropy = nn.functional.cross_entropy
        stage_3 = encoded.hidden_states[2]  # (batch, channels, R / 16, R / 16)
        cell_logits = nn.functional.pixel_shuffle(self.cell_head(stage_3), 2)
        order_logits = nn.functional.pixel_shuffle(self.order_head(stage_3), 2)
        losses = {
            "cell_loss": cross_entropy(cell_logits, cells, weight=self.cell_weight),
            "order_loss": cross_entropy(order_logits, orders),
        }
        features = [*encoded.hidden_states[2:4], encoded.last_hidden_state]
        for stage, (head, feature_map) in enumerate(zip(self.place_heads, features), start=3):
            # (batch, class, place, height, width)
            logits = head(feature_map).unflatten(1, (MAX_WORD_LENGTH, -1)).transpose(1, 2)
            scale = places.shape[-1] // logits.shape[-1]
            # A place in the word is taken once, by a class below NOTHING, so a window's least class is what it shows.
            targets = -nn.functional.max_pool2d(-places.float(), scale)
            losses[f"place_loss_{stage}"] = cross_entropy(logits, targets.long(), weight=self.cell_weight)
        if not self.encoder_only:
            outputs = self.vlm(
                input_ids=input_ids, labels=labels, mm_encoder_outputs={"image": encoded}, use_cache=False
            )
            losses["answer_loss"] = outputs.loss
        return {"loss": sum(losses.values()), **{name: loss.detach() for name, loss in losses.items()}}


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
    parser.add_argument("--output_dir", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--work_dir", type=Path, default=Path("tiny-reader-training"), help="training state")
    parser.add_argument("--encoder_samples", type=int, default=150_000, help="stage 1: the encoder with its heads")
    parser.add_argument("--samples", type=int, default=300_000, help="stage 2: everything")
    parser.add_argument("--decay_samples", type=int, default=150_000, help="last ones, where the rate falls to 0")
    parser.add_argument("--easy_samples", type=int, default=60_000, help="first ones, where the difficulty rises")
    parser.add_argument("--encoder_batch_size", type=int, default=64, help="stage 1, of all processes together")
    parser.add_argument("--batch_size", type=int, default=32, help="stage 2, of all processes together")
    parser.add_argument("--learning_rate", type=float, default=1.5e-3)
    parser.add_argument("--workers", type=int, default=1, help="rendering processes per training process")
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--evaluation_samples", type=int, default=1000, help="per held-out set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue from the last state in --work_dir")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.encoder_samples, arguments.samples, arguments.decay_samples = 320, 320, 160
        arguments.easy_samples, arguments.batch_size, arguments.evaluation_samples = 0, 32, 8
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
    started = any((arguments.work_dir / stage).glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=True if arguments.resume and started else None)
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


def main() -> None:
    arguments = parse_arguments()
    set_seed(arguments.seed)
    if not torch.cuda.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # else torchrun's processes would look for GPUs
    torch.set_flush_denormal(True)
    fonts = find_fonts(TRAINING_FONTS)
    photographs = find_photographs(held_out=False)
    print(f"{len(fonts)} of {len(TRAINING_FONTS)} fonts, {len(photographs)} photographs")

    tokenizer = build_tokenizer()
    config = build_config(tokenizer, arguments.image_size)
    model = TinyReaderForTraining(config)
    print(f"{sum(p.numel() for p in model.vlm.parameters()) / 1e6:.2f} M parameters, {len(tokenizer)} tokens")
    collator = Collator(tokenizer, arguments.image_size, config.vision_config.stride)

    renderer = Renderer(
        arguments.image_size, fonts, photographs, reading_fraction=0.9, font_sizes=(0.117, 0.45), max_words=4
    )
    dataset = RenderedDataset(renderer, arguments.encoder_samples, "encoder ", arguments.easy_samples)
    model.train_decoder(False)
    train_stage(arguments, "encoder", model, dataset, collator, arguments.encoder_batch_size)

    renderer = Renderer(arguments.image_size, fonts, photographs, reading_fraction=0.75)
    dataset = RenderedDataset(renderer, arguments.samples, "everything ")
    model.train_decoder(True)
    sets = evaluation_sets(arguments.image_size, arguments.evaluation_samples)
    progress = Progress(sets, collator, every=1000)
    trainer = train_stage(
        arguments, "everything", model, dataset, collator, arguments.batch_size, arguments.decay_samples, [progress]
    )
    if not trainer.is_world_process_zero():
        return

    write_bundle(model.vlm, tokenizer, arguments.output_dir)
    vlm = FastVLMForConditionalGeneration.from_pretrained(arguments.output_dir)
    for name, samples in sets.items():
        print(f"| {name} | {len(samples)} | {100 * exact_match(vlm, collator, samples):.1f} % |", flush=True)


if __name__ == "__main__":
    main()
