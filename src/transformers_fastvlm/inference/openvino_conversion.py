# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The vision encoder as a model of OpenVINO, in floating point or 8-bit integers."""

import contextlib
import copy
import logging
import sys
import warnings
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from ..layers_fastvithd import DepthwiseParts
from ..modeling_fastvithd import FastViTHDModel, PointwiseLinear

ATTENTION = "heads_as_batch"  # the name in `config._attn_implementation` while an encoder is converted
_TRACED_SIZE = 2  # in strides; every larger size follows from the same graph


class FeaturesAlone(nn.Module):
    """An encoder with one output, the features that FastVLM reads, as other runtimes want it."""

    def __init__(self, encoder: FastViTHDModel):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.encoder(pixel_values).last_hidden_state


def heads_as_batch(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Softmax attention whose operands have three dimensions.

    With four, OpenVINO fuses the exchange of tokens and heads behind it into the attention. Where there are as many of
    the one as of the other, it then writes the output over an input that it has not read to its end.
    """
    images = query.shape[0]
    query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))  # (images * heads, tokens, head_dim)
    output = nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling)
    return output.unflatten(0, (images, -1)).transpose(1, 2), None


AttentionInterface.register(ATTENTION, heads_as_batch)


class PartsAsPlanes(DepthwiseParts):
    """The same without a change of the layout, of which OpenVINO knows nothing.

    OpenVINO's bfloat16 kernel with AMX for the one convolution, with stride 2, leaves parts of outputs of one column
    and five or more rows unwritten; that for depthwise ones does not.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return torch.stack(self.parts(input, weight, bias), dim=2).flatten(1, 2)  # channels of all parts in turn


def convert(encoder: FastViTHDModel, calibration_pixels: torch.Tensor | None) -> Any:
    """
    An `openvino.Model` from `(images, channels, height, width)` pixels to features, in float32, of any such size.

    Args:
        encoder: in the inference form; stays as it is.
        calibration_pixels: `(images, channels, height, width)`, to compute its convolutional stages in 8-bit integers.
    """
    model = convert_images(FeaturesAlone(plain_encoder(encoder)), encoder)
    return model if calibration_pixels is None else _quantize(model, encoder, calibration_pixels)


def plain_encoder(encoder: FastViTHDModel) -> FastViTHDModel:
    """A copy in float32, of operations that OpenVINO computes right."""
    plain = copy.deepcopy(encoder).float().cpu().eval()
    plain.runtime = None
    plain.config._attn_implementation = ATTENTION
    for module in plain.modules():
        if isinstance(module, DepthwiseParts):
            module.__class__ = PartsAsPlanes
        elif isinstance(module, PointwiseLinear):  # OpenVINO has its own ways
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
    return plain


def convert_images(module: nn.Module, encoder: FastViTHDModel) -> Any:
    """An `openvino.Model` of a module that takes the pixels of this encoder, of any number and size."""
    import openvino

    channels, side = encoder.config.num_channels, _TRACED_SIZE * encoder.config.stride
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every check of a shape
        return openvino.convert_model(
            module, example_input=torch.zeros(2, channels, side, side), input=[(-1, channels, -1, -1)]
        )


def _quantize(model: Any, encoder: FastViTHDModel, calibration_pixels: torch.Tensor) -> Any:
    """8-bit stages but for the last two, which with the stem and the final convolution stay as they are.

    These are a fifth of FastViTHD's work and all of the loss: with them, the bundled checkpoint forgets how to count.
    """
    import nncf

    last = len(encoder.config.depths) - 1
    parts = "stem", "final_conv", rf"stages\.{last - 1}", rf"stages\.{last}"
    images = [image.detach().float().numpy() for image in calibration_pixels.split(1)]
    nncf.set_log_level(logging.ERROR)  # it lists every operation that is left out
    with contextlib.redirect_stdout(sys.stderr):  # it shows its progress
        return nncf.quantize(
            model,
            nncf.Dataset(images),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(patterns=[rf".*encoder\.{part}\..*" for part in parts]),
        )
