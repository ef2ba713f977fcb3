# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""An OpenVINO export behind `generate`, on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig

from ..configuration_fastvlm import FastVLMConfig
from ..extras import require
from ..inference.openvino_files import openvino_core
from .exported_model import ExportedFastVLMForConditionalGeneration
from .manifest import read_manifest
from .openvino_writing import DECODER, EMBEDDING, VISION

_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32", "int4": "f32"}


class OpenVinoCache(DynamicCache):
    """Keys and values inside of a request; here is only how many there are, and which rows are read next."""

    def __init__(self, request: Any):
        super().__init__()
        self.request, self.length = request, 0
        self.rows: torch.Tensor | None = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.rows = beam_idx

    def crop(self, max_length: int) -> None:
        raise NotImplementedError("The memory of an OpenVINO export cannot be made shorter.")

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.rows = torch.arange(self.request.query_state()[0].state.shape[0]).repeat_interleave(repeats)


class OpenVinoRuntime:
    """
    The compiled models of an exported folder.

    Args:
        folder: that `fastvlm export --to openvino` wrote.
        precision: that it was written at.
        threads: of each model; by default as many as torch has.
    """

    def __init__(self, folder: Path, precision: str, threads: int | None = None):
        hint = _PRECISIONS[precision]
        options = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": torch.get_num_threads() if threads is None else threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        memory = {"KV_CACHE_PRECISION": hint, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        core = openvino_core()
        self.encoder = core.compile_model(folder / VISION, "CPU", options)
        self.embed = core.compile_model(folder / EMBEDDING, "CPU", options)
        self.decoder = core.compile_model(folder / DECODER, "CPU", options | memory)

    def image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return torch.cat([_first(self.encoder(image.contiguous().numpy())) for image in pixel_values.split(1)])

    def embeddings(self, input_ids: torch.Tensor) -> torch.Tensor:
        return _first(self.embed(input_ids.contiguous().numpy()))

    def new_cache(self) -> OpenVinoCache:
        return OpenVinoCache(self.decoder.create_infer_request())

    def decode(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        logits_to_keep: int,
        cache: OpenVinoCache,
    ) -> torch.Tensor:
        batch, positions = inputs_embeds.shape[:2]
        kept = positions if not logits_to_keep else min(logits_to_keep, positions)
        rows = torch.arange(batch) if cache.rows is None else cache.rows
        feeds = {
            "inputs_embeds": inputs_embeds.contiguous().numpy(),
            "attention_mask": attention_mask.to(torch.int64).contiguous().numpy(),
            "position_ids": position_ids.to(torch.int64).contiguous().numpy(),
            "kept_positions": np.arange(positions - kept, positions),
            "beam_idx": rows.to(torch.int32).numpy(),
        }
        found = _first(cache.request.infer(feeds))
        cache.rows = None
        cache.length += positions
        return found


def _first(results: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(results[0]))  # the request's own memory is written to again


def load_openvino(folder: str | Path, threads: int | None = None) -> ExportedFastVLMForConditionalGeneration:
    """
    A model that `fastvlm export --to openvino` wrote, with all that `generate` does but assisted decoding.

    Args:
        folder: of the export. `FastVLMProcessor.from_pretrained` takes it too.
        threads: that OpenVINO computes with; by default as many as torch has.

    Raises:
        MissingLibraryError: if OpenVINO is not installed.
        OSError: if a file is missing or cut off; it says which.
    """
    require(["openvino"], "inference", "An OpenVINO export")
    folder = Path(folder)
    precision = read_manifest(folder)["precision"]
    config = FastVLMConfig.from_pretrained(folder)
    return ExportedFastVLMForConditionalGeneration(
        config, GenerationConfig.from_pretrained(folder), OpenVinoRuntime(folder, precision, threads)
    )


__all__ = ["OpenVinoRuntime", "load_openvino"]
