# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Models loaded as they are to run, what is asked of them, and faster answers: `optimize_for_inference`."""

from ..extras import MissingLibraryError
from .answer_options import AnswerOptions
from .answer_text import AnswerText
from .answerer import Answer, Answerer, AnswerStream, load_answerer, prepare_inputs
from .answering import generate_answers, image_embeddings, nearest_image, score_continuations, to_messages
from .linear_layers import Int8Linear, PackedLinear
from .model_loading import load, load_model
from .model_options import ModelOptions, RunOptions
from .openvino_encoder import OpenVinoEncoder
from .optimize import Optimization, optimize_for_inference

__all__ = [
    "Answer",
    "AnswerOptions",
    "AnswerStream",
    "AnswerText",
    "Answerer",
    "Int8Linear",
    "MissingLibraryError",
    "ModelOptions",
    "OpenVinoEncoder",
    "Optimization",
    "PackedLinear",
    "RunOptions",
    "generate_answers",
    "image_embeddings",
    "load",
    "load_answerer",
    "load_model",
    "nearest_image",
    "optimize_for_inference",
    "prepare_inputs",
    "score_continuations",
    "to_messages",
]
