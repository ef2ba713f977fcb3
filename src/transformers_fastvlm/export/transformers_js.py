# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The settings files that transformers.js wants beside ONNX files; our processor reads them too."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

from ..checkpoint_files import read_json_object
from ..programs.files import write_text
from .foreign_settings import original_config
from .onnx_writing import OnnxFile, part_dtypes

OWN_CONFIG = "fastvlm_config"  # the model's whole configuration, in `config.json`
_TOKENIZER_CONFIG = "tokenizer_config.json"


def write_transformers_js_settings(
    folder: Path, model: Any, processor: Any, files: Iterable[OnnxFile], precision: str
) -> None:
    """
    `config.json`, `generation_config.json`, and the processor's and tokenizer's files.

    transformers.js knows the authors' settings. It takes the chat template from the tokenizer's file, and crops: a
    page pads its pictures itself.
    """
    config = {
        **original_config(model, processor),
        "image_token_index": model.config.image_token_id,
        "transformers.js_config": {
            "dtype": part_dtypes(precision),
            "use_external_data_format": {file.path.name: file.pieces for file in files},
        },
        OWN_CONFIG: {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"},
    }
    _write_json(folder / CONFIG_NAME, config)
    model.generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)
    settings = read_json_object(folder / PROCESSOR_NAME)
    _write_json(folder / PROCESSOR_NAME, settings | {"num_additional_image_tokens": 0})
    images = processor.image_processor
    side = images.get_resolution()
    _write_json(
        folder / IMAGE_PROCESSOR_NAME,
        {
            "processor_class": "LlavaProcessor",
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": side},
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": images.rescale_factor,
            "do_normalize": images.do_normalize,
            "image_mean": list(images.image_mean),
            "image_std": list(images.image_std),
            "resample": int(images.resample),
        },
    )
    tokenizer = read_json_object(folder / _TOKENIZER_CONFIG)
    _write_json(folder / _TOKENIZER_CONFIG, tokenizer | {"chat_template": processor.chat_template})


def _write_json(path: Path, settings: dict[str, Any]) -> None:
    write_text(path, json.dumps(settings, indent=2, sort_keys=True) + "\n")
