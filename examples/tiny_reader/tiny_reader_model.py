# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The bundled tiny FastVLM: its tokenizer and sizes, and what `train_tiny_reader.py` puts around it to train it."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2Tokenizer

from tiny_reader_data import (
    ALPHABET,
    COLOUR_QUESTION,
    COLOURS,
    COUNT_QUESTION,
    MAX_SHAPES,
    MAX_WORD_LENGTH,
    READING_QUESTION,
    SHAPES,
    Sample,
)
from transformers_fastvlm import FastViTHDConfig, FastViTHDModel, FastVLMConfig, FastVLMForConditionalGeneration
from transformers_fastvlm.training.rows import NO_LOSS

PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{images}\n{question}<|im_end|>\n<|im_start|>assistant\n"
)
IMAGE_TOKEN = "<image>"
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", IMAGE_TOKEN]
MARKS = (*ALPHABET, *(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES))
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


def build_config(tokenizer: Qwen2Tokenizer, size: int, reparameterized: bool) -> FastVLMConfig:
    """About 3.7 M parameters."""
    vision = FastViTHDConfig(
        image_size=size,
        depths=[1, 2, 3, 2, 1],
        hidden_sizes=[16, 48, 192, 192, 192],
        # Attention from stage 3 on: a character's place in its word depends on all characters before it.
        token_mixers=["repmixer", "repmixer", "attention", "attention", "attention"],
        mlp_ratio=3.0,
        projection_dim=None,
        layer_scale_init_value=0.5,
        reparameterized=reparameterized,
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
        weights_license="apache-2.0",
    )


@dataclass
class Collator:
    """Turns samples into model inputs, equal to what `FastVLMProcessor` makes of the same image and question.

    Also gives the targets of the auxiliary losses. `cells` `(batch, R/8, R/8)` is the character or coloured shape
    whose centre lies in the cell, and `orders`, of the same shape, its place in the word or the number of its kind. On
    a grid of 16x16 pixels, `places` `(batch, 8, R/16, R/16)` is both at once, what with a given place lies in the
    cell; and `counts` `(batch, 4, R/16, R/16)` is how many shapes of each kind lie there.
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
        counts = np.zeros((len(samples), len(SHAPES), self.size // 16, self.size // 16), np.float32)
        for row, (sample, prompt, answer) in enumerate(zip(samples, prompts, answers)):
            end = len(prompt) + len(answer)
            input_ids[row, :end] = prompt + answer
            labels[row, len(prompt) : end] = answer
            reading = sample.question == READING_QUESTION
            if reading and len(sample.marks) > len(sample.answer):
                places[row] = NO_LOSS  # several words: each place is taken more than once
            for mark, x, y, place in sample.marks:
                down, right = (min(int(part), self.size - 1) // 8 for part in (y, x))
                cells[row, down, right] = MARKS.index(mark)
                orders[row, down, right] = place
                at = row, place, down // 2, right // 2
                places[at] = min(places[at], MARKS.index(mark))
                if not reading:
                    counts[at] += 1
        # No attention mask: padding is on the right and every position looks only to the left.
        arrays = {
            "input_ids": input_ids,
            "labels": labels,
            "cells": cells,
            "orders": orders,
            "places": places,
            "counts": counts,
        }
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


def mean_over_answers(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Next-token loss in which every answer counts the same, so that counts and colours do not drown in long words."""
    targets = labels[:, 1:]
    losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none")  # 0 at NO_LOSS
    return (losses.sum(1) / (targets != NO_LOSS).sum(1)).mean()


class TinyReaderForTraining(nn.Module):
    """The VLM with auxiliary heads on its encoder, which are thrown away at the end.

    Next-token prediction alone teaches an untrained encoder very slowly. FastVLM starts from an encoder pre-trained on
    image-text pairs (arXiv 2412.13303, section 4). Here, its place is taken by naming, from stage 3, the character or
    shape in each cell and its place in the word; and from stage 4 and the final feature map, both together: which
    character has the first, second, ... place of the word, if that lies in the position's window; and likewise, which
    colour each kind of shape has there, and how many there are.
    """

    def __init__(self, config: FastVLMConfig):
        super().__init__()
        self.vlm = FastVLMForConditionalGeneration(config)
        self.encoder_only = False
        # Trained from a random start, these gates shut within a hundred steps, and all learning behind them stops.
        gates = self.vlm.model.vision_tower.final_conv.squeeze_excite
        nn.init.normal_(gates.expand.weight, std=0.01)
        nn.init.constant_(gates.expand.bias, 2.0)
        gates.requires_grad_(False)
        if not config.vision_config.reparameterized:
            start_as_pooling(self.vlm.model.vision_tower)
        vision = config.vision_config
        classes = len(MARKS) + 1
        # A position of stage 3 covers 2x2 cells.
        self.cell_head = nn.Conv2d(vision.hidden_sizes[2], 4 * classes, 1)
        self.order_head = nn.Conv2d(vision.hidden_sizes[2], 4 * MAX_WORD_LENGTH, 1)
        widths = [vision.hidden_sizes[3], vision.hidden_size]
        self.place_heads = nn.ModuleList(nn.Conv2d(width, MAX_WORD_LENGTH * classes, 1) for width in widths)
        self.count_heads = nn.ModuleList(nn.Conv2d(width, len(SHAPES) * (MAX_SHAPES + 1), 1) for width in widths)
        weight = torch.ones(classes)
        weight[NOTHING] = 0.02  # most cells and places are empty
        self.register_buffer("cell_weight", weight, persistent=False)
        weight = torch.ones(MAX_SHAPES + 1)
        weight[0] = 0.02
        self.register_buffer("count_weight", weight, persistent=False)

    def start_from(self, folder: Path) -> None:
        """Takes over the weights of a bundle, which may have fewer blocks; added ones start near the identity."""
        weights = FastVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).state_dict()
        missing, unexpected = self.vlm.load_state_dict(weights, strict=False)
        if unexpected or not all(".blocks." in name for name in missing):
            raise ValueError(f"{folder} does not fit: {[*unexpected, *missing]}")

    def train_decoder(self, wanted: bool) -> None:
        """Whether the decoder takes part; without it, the encoder learns from its heads alone, and faster."""
        self.encoder_only = not wanted
        for module in (self.vlm.model.multi_modal_projector, self.vlm.model.language_model, self.vlm.lm_head):
            module.requires_grad_(wanted)

    def forward(self, pixel_values, input_ids, labels, cells, orders, places, counts) -> dict[str, torch.Tensor]:
        if self.encoder_only:
            encoded = self.vlm.model.vision_tower(pixel_values, output_hidden_states=True)
        else:
            encoded = self.vlm.get_image_features(pixel_values, output_hidden_states=True)
        cross_entropy = nn.functional.cross_entropy
        stage_3 = encoded.hidden_states[3]  # (batch, channels, R / 16, R / 16)
        cell_logits = nn.functional.pixel_shuffle(self.cell_head(stage_3), 2)
        order_logits = nn.functional.pixel_shuffle(self.order_head(stage_3), 2)
        losses = {
            "cell_loss": cross_entropy(cell_logits, cells, weight=self.cell_weight),
            "order_loss": cross_entropy(order_logits, orders),
        }
        for stage, feature_map in enumerate((encoded.hidden_states[4], encoded.last_hidden_state)):
            # (batch, class, place, height, width)
            logits = self.place_heads[stage](feature_map).unflatten(1, (MAX_WORD_LENGTH, -1)).transpose(1, 2)
            scale = places.shape[-1] // logits.shape[-1]
            # What is in a window comes before NOTHING; of several shapes of a kind, the first colour counts.
            targets = -nn.functional.max_pool2d(-places.float(), scale)
            losses[f"place_loss_{stage + 4}"] = cross_entropy(logits, targets.long(), weight=self.cell_weight)
            logits = self.count_heads[stage](feature_map).unflatten(1, (len(SHAPES), -1)).transpose(1, 2)
            targets = nn.functional.avg_pool2d(counts, scale) * scale**2
            losses[f"count_loss_{stage + 4}"] = 0.3 * cross_entropy(
                logits, targets.round().long(), weight=self.count_weight
            )
        if not self.encoder_only:
            outputs = self.vlm(input_ids=input_ids, mm_encoder_outputs={"image": encoded}, use_cache=False)
            losses["answer_loss"] = mean_over_answers(outputs.logits, labels)
        return {"loss": sum(losses.values()), **{name: loss.detach() for name, loss in losses.items()}}
