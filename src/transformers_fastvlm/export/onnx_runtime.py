# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""An ONNX export behind `generate`, run by ONNX Runtime on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig
from transformers.utils import CONFIG_NAME

from ..checkpoint_files import read_json_object
from ..configuration_fastvlm import FastVLMConfig
from ..extras import require
from .exported_model import ExportedFastVLMForConditionalGeneration, fill, tensors_in
from .manifest import read_manifest
from .onnx_writing import ONNX_FOLDER, SUFFIXES
from .transformers_js import OWN_CONFIG

PARTS = ("vision_encoder", "embed_tokens", "decoder_model_merged")
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxRuntime:
    """
    The sessions of an exported folder.

    Args:
        folder: that `fastvlm export --to onnx` wrote.
        threads: of each session; by default as many as torch has.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        dtypes = read_json_object(folder / CONFIG_NAME)["transformers.js_config"]["dtype"]
        self.encoder, self.embed, self.decoder = (
            _session(folder / ONNX_FOLDER / f"{name}{SUFFIXES[dtypes[name]]}.onnx", threads) for name in PARTS
        )
        self.past = {
            entry.name: (_DTYPES[entry.type], entry.shape)
            for entry in self.decoder.get_inputs()
            if entry.name.startswith("past_key_values.")
        }

    def image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.encoder.run(None, {"pixel_values": pixel_values.contiguous().numpy()})[0])

    def embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.embed.run(None, {"input_ids": input_ids.contiguous().numpy()})[0])

    def new_cache(self) -> DynamicCache:
        return DynamicCache()

    def decode(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_to_keep: int,
        cache: DynamicCache,
    ) -> torch.Tensor:
        feeds = {
            "inputs_embeds": inputs_embeds.contiguous().numpy(),
            "attention_mask": attention_mask.to(torch.int64).contiguous().numpy(),
            "position_ids": position_ids.to(torch.int64).contiguous().numpy(),
            "num_logits_to_keep": np.array(logits_to_keep, dtype=np.int64),
            **self._past(cache, len(inputs_embeds)),
        }
        logits, *present = (torch.from_numpy(array) for array in self.decoder.run(None, feeds))
        fill(cache, present)
        return logits

    def _past(self, cache: DynamicCache, batch: int) -> dict[str, np.ndarray]:
        if cache.get_seq_length():
            return {name: tensor.contiguous().numpy() for name, tensor in zip(self.past, tensors_in(cache))}
        return {name: np.zeros((batch, shape[1], 0, shape[3]), dtype) for name, (dtype, shape) in self.past.items()}


def _session(path: Path, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def load_onnx(folder: str | Path, threads: int | None = None) -> ExportedFastVLMForConditionalGeneration:
    """
    A model that `fastvlm export --to onnx` wrote, with all that `generate` does.

    Args:
        folder: of the export. `FastVLMProcessor.from_pretrained` takes it too.
        threads: that ONNX Runtime computes with; by default as many as torch has.

    Raises:
        MissingLibraryError: if ONNX Runtime is not installed.
        OSError: if a file is missing or cut off; it says which.
    """
    require(["onnxruntime"], "export", "An ONNX export")
    folder = Path(folder)
    read_manifest(folder)
    config = FastVLMConfig(**read_json_object(folder / CONFIG_NAME)[OWN_CONFIG])
    return ExportedFastVLMForConditionalGeneration(
        config, GenerationConfig.from_pretrained(folder), OnnxRuntime(folder, threads)
    )


__all__ = ["OnnxRuntime", "load_onnx"]
