# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The settings files of the two foreign layouts, out of a model's and its processor's."""

import json
from pathlib import Path
from typing import Any

from ..checkpoint_formats import ORIGINAL, TEXT_KEYS, UPSTREAM
from ..programs.files import write_text

# What the authors' code asks of every checkpoint, and what LLaVA's training leaves in it.
_LLAVA = {
    "freeze_mm_mlp_adapter": False,
    "mm_patch_merge_type": "flat",
    "mm_projector_lr": None,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "tokenizer_padding_side": "right",
    "tune_mm_mlp_adapter": False,
    "unfreeze_mm_vision_tower": True,
    "use_mm_proj": True,
}


def write_settings(folder: Path, model: Any, processor: Any, layout: str) -> None:
    """`config.json`, `generation_config.json` and the tokenizer's files, as readers of the layout want them."""
    config = original_config(model, processor) if layout == ORIGINAL else _upstream_config(model, processor)
    write_text(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
    model.generation_config.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    if layout == UPSTREAM:
        side = processor.image_processor.get_resolution()
        images = {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": side},
            "crop_size": {"height": side, "width": side},
            "do_normalize": False,
        }
        write_text(folder / "preprocessor_config.json", json.dumps(images, indent=2) + "\n")


def _text_settings(model: Any) -> dict[str, Any]:
    text = model.config.text_config
    settings = {key: getattr(text, key) for key in TEXT_KEYS if getattr(text, key, None) is not None}
    rope = getattr(text, "rope_parameters", None) or {}
    if "rope_theta" in rope:  # where transformers 5 keeps it
        settings["rope_theta"] = rope["rope_theta"]
    ends = settings.get("eos_token_id")
    return settings | ({"eos_token_id": ends[0]} if isinstance(ends, list) else {})


def original_config(model: Any, processor: Any) -> dict[str, Any]:
    """`config.json` as the authors write it, flat."""
    images = processor.image_processor
    aspect = "anyres" if images.do_tile else "pad" if images.do_pad else "square"
    return {
        **_text_settings(model),
        **_LLAVA,
        "architectures": ["LlavaQwen2ForCausalLM"],
        "image_aspect_ratio": aspect,
        "image_grid_pinpoints": images.image_grid_pinpoints if images.do_tile else None,
        "mm_hidden_size": model.config.vision_config.hidden_size,
        "mm_vision_tower": f"mobileclip_l_{images.get_resolution()}",
        "model_type": ORIGINAL,
        "tie_word_embeddings": False,
        # A tokenizer without a limit has an astronomic one.
        "tokenizer_model_max_length": min(
            processor.tokenizer.model_max_length, model.config.text_config.max_position_embeddings
        ),
        "torch_dtype": str(model.dtype).removeprefix("torch."),
    }


def _upstream_config(model: Any, processor: Any) -> dict[str, Any]:
    from transformers import FastVlmConfig

    side = processor.image_processor.get_resolution()
    config = FastVlmConfig(
        text_config={**model.config.text_config.to_dict(), "tie_word_embeddings": False},
        image_token_index=model.config.image_token_id,
        image_seq_length=(side // model.config.vision_config.stride) ** 2,
        tie_word_embeddings=False,
        dtype=str(model.dtype).removeprefix("torch."),
    )
    return {**config.to_dict(), "architectures": ["FastVlmForConditionalGeneration"], "model_type": UPSTREAM}
