# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A model as OpenVINO's files: encoder with projector, embedding, and a decoder with a memory of its own."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim
from transformers.utils import logging as transformers_logging

from ..inference.openvino_conversion import convert_images, plain_encoder
from .model_parts import Decoder, EmbedTokens, cache_shapes, decoder_example, example_text

# As optimum-intel and OpenVINO GenAI name them.
VISION, EMBEDDING, DECODER = (
    f"openvino_{part}_model.xml" for part in ("vision_embeddings", "text_embeddings", "language")
)
_GROUP = 32  # weights of 4 bits that share a scale


class _VisualTokens(nn.Module):
    """`(crops, 3, R, R)` pixels to `(crops, tokens, hidden)` visual tokens."""

    def __init__(self, model: Any):
        super().__init__()
        self.encoder = plain_encoder(model.model.vision_tower)
        self.projector = model.model.multi_modal_projector

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        features = self.encoder(pixel_values).last_hidden_state
        return self.projector(features.flatten(2).transpose(1, 2))


def write_openvino(model: Any, folder: Path, precision: str) -> None:
    """
    Write the parts of a model in float32, whose weights become float16, or below that, integers in the decoder.

    Raises:
        ExportError: if the decoder remembers by other things than keys and values.
    """
    import openvino

    shapes = cache_shapes(model)
    is_half = precision != "fp32"
    with _quiet():
        vision = convert_images(_VisualTokens(model), model.model.vision_tower)
        openvino.save_model(vision, folder / VISION, compress_to_fp16=is_half)
        del vision
        embedding = openvino.convert_model(EmbedTokens(model), example_input=example_text(), input=[(-1, -1)])
        openvino.save_model(embedding, folder / EMBEDDING, compress_to_fp16=is_half)
        del embedding
        decoder = _stateful(openvino.convert_model(_exported(model, shapes)), shapes)
        if precision in ("int8", "int4"):
            decoder = _compressed(decoder, precision)
        openvino.save_model(decoder, folder / DECODER, compress_to_fp16=is_half)


def _exported(model: Any, shapes: list[tuple[int, int]]) -> torch.export.ExportedProgram:
    text = {0: Dim.AUTO, 1: Dim.AUTO}
    cache = {0: Dim.AUTO, 2: Dim.AUTO}
    arguments = decoder_example(model, shapes, torch.arange(2))
    dynamic = dict.fromkeys(("inputs_embeds", "attention_mask", "position_ids"), text) | {
        "num_logits_to_keep": {0: Dim.AUTO},
        "past_key_values": [(cache, cache)] * len(shapes),
    }
    with torch.no_grad():
        return torch.export.export(Decoder(model, _listed_positions).eval(), (), arguments, dynamic_shapes=dynamic)


def _listed_positions(hidden: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return hidden.index_select(1, positions)


def _stateful(decoder: Any, shapes: list[tuple[int, int]]) -> Any:
    """
    The decoder with its keys and values as a memory of its own, which `beam_idx` takes the rows of.

    Its inputs are then `inputs_embeds`, `attention_mask`, `position_ids`, `kept_positions` and `beam_idx`.
    """
    import openvino
    from openvino import opset13
    from openvino._offline_transformations import apply_make_stateful_transformation

    count = 2 * len(shapes)
    inputs, outputs = decoder.inputs[-count:], decoder.outputs[-count:]
    decoder.inputs[3].get_tensor().set_names({"kept_positions"})
    decoder.outputs[0].get_tensor().set_names({"logits"})
    names = {}
    for index, (entry, result) in enumerate(zip(inputs, outputs)):
        heads, size = shapes[index // 2]
        entry.get_node().set_partial_shape(openvino.PartialShape([-1, heads, -1, size]))
        entry.get_tensor().set_names({f"past.{index}"})
        result.get_tensor().set_names({f"present.{index}"})
        names[f"past.{index}"] = f"present.{index}"
    beams = opset13.parameter([-1], dtype=openvino.Type.i32, name="beam_idx")
    beams.output(0).get_tensor().set_names({"beam_idx"})
    decoder.add_parameters([beams])
    for entry in inputs:
        consumers = entry.get_target_inputs()
        rows = opset13.gather(entry, beams, opset13.constant(0))
        for consumer in consumers:
            consumer.replace_source_output(rows.output(0))
    decoder.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(decoder, names)
    batch = opset13.gather(
        opset13.shape_of(decoder.input("inputs_embeds"), output_type="i64"), opset13.constant([0]), opset13.constant(0)
    )
    for node in decoder.get_ops():
        if node.get_type_name() == "ReadValue":
            _, heads, _, size = node.get_output_partial_shape(0)
            rest = np.array([heads.get_length(), 0, size.get_length()], dtype=np.int64)
            shape = opset13.concat([batch, opset13.constant(rest)], axis=0)
            empty = opset13.broadcast(opset13.constant(0.0, dtype=node.get_output_element_type(0)), shape)
            node.set_arguments([empty])
    decoder.validate_nodes_and_infer_types()
    return decoder


def _compressed(decoder: Any, precision: str) -> Any:
    import nncf

    nncf.set_log_level(logging.ERROR)  # it lists what it does
    if precision == "int8":
        return nncf.compress_weights(decoder, mode=nncf.CompressWeightsMode.INT8_ASYM)
    smaller = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    return nncf.compress_weights(
        decoder,
        mode=nncf.CompressWeightsMode.INT4_SYM,
        group_size=_GROUP,
        ratio=1.0,
        advanced_parameters=smaller,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what tracing warns of, and what NNCF shows of its progress; tracing asks a model for its loss, too."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
