# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A model's parts as ONNX graphs, traced with any number of images, sizes, prompts and lengths."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from .model_parts import Decoder, EmbedTokens, VisionEncoder, cache_shapes, decoder_example, example_text

# Images that a trace starts from, and the grid of their visual tokens.
_IMAGES, _ROWS, _COLUMNS = 2, 2, 3
# Names by which transformers.js sizes empty caches.
_BATCH_NAME, _PAST_NAME = "batch_size", "past_sequence_length"


@dataclass(frozen=True)
class OnnxPart:
    """
    One graph to export.

    Args:
        name: of its file, as transformers.js has it.
        module: what it computes.
        arguments: of the trace, by name.
        inputs: name and names of the dimensions of each tensor in `arguments`; numbers are fixed sizes.
        outputs: the same of what it returns.
    """

    name: str
    module: Callable[[], nn.Module]
    arguments: dict[str, Any]
    inputs: list[tuple[str, list[str | int]]]
    outputs: list[tuple[str, list[str | int]]]


def onnx_parts(model: Any) -> Iterator[OnnxPart]:
    """
    Raises:
        ExportError: if the decoder remembers by other things than keys and values.
    """
    config = model.config.vision_config
    width, vocab_size = model.get_input_embeddings().embedding_dim, model.config.text_config.vocab_size
    pixels = torch.rand(_IMAGES, config.num_channels, _ROWS * config.stride, _COLUMNS * config.stride)
    shapes = cache_shapes(model)
    yield OnnxPart(
        "vision_encoder",
        lambda: VisionEncoder(model),
        {"pixel_values": pixels},
        [("pixel_values", ["num_crops", config.num_channels, "height", "width"])],
        [("image_features", ["num_crops", "num_image_tokens", width])],
    )
    text: list[str | int] = [_BATCH_NAME, "sequence_length"]
    yield OnnxPart(
        "embed_tokens",
        lambda: EmbedTokens(model),
        {"input_ids": example_text()},
        [("input_ids", text)],
        [("inputs_embeds", [*text, width])],
    )
    yield OnnxPart(
        "decoder_model_merged",
        lambda: Decoder(model, _last_positions),
        decoder_example(model, shapes, torch.tensor(1)),
        [
            ("inputs_embeds", [*text, width]),
            ("attention_mask", [_BATCH_NAME, "total_sequence_length"]),
            ("position_ids", text),
            ("num_logits_to_keep", []),
            *_caches("past_key_values", shapes, _PAST_NAME),
        ],
        [
            ("logits", [_BATCH_NAME, "num_logits", vocab_size]),
            *_caches("present", shapes, "total_sequence_length"),
        ],
    )


def _last_positions(hidden: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """The last so many of `(batch, positions, hidden)`, all of them for 0: a slice that PyTorch has no graph for."""
    axis, end = torch.tensor([1]), torch.tensor([torch.iinfo(torch.int64).max])
    # The graph finds out how many come out; here, the shape only has to have as many dimensions.
    return torch.onnx.ops.symbolic(
        "Slice", (hidden, -count.reshape(1), end, axis), dtype=hidden.dtype, shape=hidden.shape, version=13
    )


def _caches(prefix: str, shapes: list[tuple[int, int]], length: str) -> list[tuple[str, list[str | int]]]:
    return [
        (f"{prefix}.{index}.{kind}", [_BATCH_NAME, heads, length, size])
        for index, (heads, size) in enumerate(shapes)
        for kind in ("key", "value")
    ]


def traced(part: OnnxPart) -> Any:
    """The `onnx_ir.Model` of a part, its inputs, outputs and their dimensions named."""
    flat = iter(part.inputs)
    dynamic = _map_tensors(
        part.arguments,
        lambda _: {axis: Dim.AUTO for axis, size in enumerate(next(flat)[1]) if isinstance(size, str)},
    )
    with torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            part.module().eval(), (), kwargs=part.arguments, dynamic_shapes=dynamic, dynamo=True, verbose=False
        )
    assert program is not None
    graph = program.model.graph
    for values, named in ((graph.inputs, part.inputs), (graph.outputs, part.outputs)):
        assert len(values) == len(named), f"{len(values)} values, {len(named)} names"
        for value, (name, shape) in zip(values, named):
            value.name = name
            value.shape = _symbolic(shape)
    _strip(program.model)
    return program.model


def _symbolic(shape: list[str | int]) -> Any:
    import onnx_ir

    return onnx_ir.Shape(shape)


def _strip(model: Any) -> None:
    """Without what PyTorch notes of each node, files on this machine among it, and without shapes inside of the graph,
    whose names would contradict those of the inputs."""
    graph = model.graph
    outputs = set(graph.outputs)
    for part in (model, graph, *graph.inputs, *graph.initializers.values()):
        part.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in outputs:
                value.shape = None


def _map_tensors(tree: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    if isinstance(tree, dict):
        return {name: _map_tensors(each, function) for name, each in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_map_tensors(each, function) for each in tree)
    return function(tree)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without what PyTorch says of every export: deprecations of its own, and which symbols it renamed."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
