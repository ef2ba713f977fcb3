# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX files of a model at a precision: graphs small, weights beside them in pieces that browsers can load."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .onnx_parts import OnnxPart, onnx_parts, traced

ONNX_FOLDER = "onnx"
# What transformers.js appends to a file's name for what it calls a dtype.
SUFFIXES = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "q4": "_q4"}
_BITS = {"q8": 8, "q4": 4}
_BLOCK = 32  # weights that share a scale
_INT8_ACTIVATIONS = 4  # the runtime's number for multiplying quantized weights with activations in 8-bit integers
_PIECE = 1_900_000_000  # bytes; browsers hold less than 2 GiB in one buffer
_EXTERNAL = 1024  # bytes from which on a weight goes beside the graph


def part_dtypes(precision: str) -> dict[str, str]:
    """
    What transformers.js calls each part's dtype, at a precision.

    Below fp32, encoder and embedding keep their weights as float16, and compute in float32: the encoder's activations
    exceed float16, and its convolutions gain nothing from integers there.
    """
    others = "fp32" if precision == "fp32" else "fp16"
    return {"vision_encoder": others, "embed_tokens": others, "decoder_model_merged": precision}


@dataclass(frozen=True)
class OnnxFile:
    """
    Args:
        path: of the graph.
        pieces: how many files of weights are beside it.
    """

    path: Path
    pieces: int


def write_onnx(model: Any, folder: Path, precision: str) -> Iterator[OnnxFile]:
    """
    Write the parts of a model, whose dtype is float16 for `"fp16"` and float32 for others, one after the other. Behind
    the last, the model may have no weights.

    Raises:
        ExportError: if the decoder is none that ONNX files of it could be run.
    """
    folder.mkdir()
    for part in onnx_parts(model):
        dtype = part_dtypes(precision)[part.name]
        path = folder / f"{part.name}{SUFFIXES[dtype]}.onnx"
        if dtype in _BITS:
            graph = _quantized(part, model, folder / ".floating", _BITS[dtype])
        else:
            graph = traced(part)
            if dtype == "fp16":
                _store_as_half(graph)
        yield OnnxFile(path, _save(graph, path))
        del graph


def _quantized(part: OnnxPart, model: Any, temporary: Path, bits: int) -> Any:
    """
    The decoder's graph with the weights of matrix products in blocks of integers, by ONNX Runtime.

    It goes through a file, which is removed. Then nothing needs the model's weights any more: they give up their
    memory.
    """
    import onnx
    import onnx_ir
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    temporary.mkdir()
    path = temporary / "model.onnx"
    onnx_ir.save(traced(part), path, external_data="weights")
    model.to("meta")
    quantizer = MatMulNBitsQuantizer(
        onnx.load(path), bits=bits, block_size=_BLOCK, is_symmetric=True, accuracy_level=_INT8_ACTIVATIONS
    )
    shutil.rmtree(temporary)
    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)  # it tells of every node
    quantizer.process()
    return onnx_ir.from_proto(quantizer.model.model)


def _store_as_half(graph: Any) -> None:
    """Float32 weights, in place, as float16 ones that are widened where they are read."""
    import onnx_ir

    for value in list(graph.graph.initializers.values()):
        if value.dtype != onnx_ir.DataType.FLOAT or value.const_value.nbytes < _EXTERNAL:
            continue
        half = onnx_ir.tensor(value.const_value.numpy().astype(np.float16), name=f"{value.name}.float16")
        stored = onnx_ir.Value(
            name=half.name, const_value=half, shape=value.shape, type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT16)
        )
        _read_widened(graph.graph, value, stored)


def _read_widened(graph: Any, value: Any, stored: Any) -> None:
    """Let the users of a weight read another through a cast; those that gather from it cast what they gathered."""
    import onnx_ir

    to_float = [onnx_ir.AttrInt64("to", int(onnx_ir.DataType.FLOAT))]
    graph.register_initializer(stored)
    for node, _ in list(value.uses()):
        if node.op_type != "Gather":
            continue
        found = node.outputs[0]
        gather = onnx_ir.Node("", "Gather", [stored, node.inputs[1]], node.attributes.values())
        cast = onnx_ir.Node("", "Cast", gather.outputs, to_float)
        cast.outputs[0].name, cast.outputs[0].shape, cast.outputs[0].type = found.name, found.shape, found.type
        found.replace_all_uses_with(cast.outputs[0], replace_graph_outputs=True)
        graph.insert_before(node, [gather, cast])
        graph.remove(node, safe=True)
    if value.uses():
        cast = onnx_ir.Node("", "Cast", [stored], to_float)
        value.replace_all_uses_with(cast.outputs[0])
        graph.insert_before(graph[0], cast)
    graph.initializers.pop(value.name)


def _save(graph: Any, path: Path) -> int:
    """Write a graph and its weights; how many files these are in."""
    import onnx_ir

    pieces: list[list[Any]] = [[]]
    size = 0
    for value in graph.graph.initializers.values():
        if value.const_value.nbytes < _EXTERNAL:
            continue
        if size + value.const_value.nbytes > _PIECE and pieces[-1]:
            pieces.append([])
            size = 0
        pieces[-1].append(value)
        size += value.const_value.nbytes
    for index, values in enumerate(pieces):
        name = f"{path.name}_data" + (f"_{index}" if index else "")
        tensors = [value.const_value for value in values]
        external = onnx_ir.external_data.convert_tensors_to_external(tensors, path.parent, name)
        for value, tensor in zip(values, external):
            value.const_value = tensor
    onnx_ir.save(graph, path)
    return len(pieces)
