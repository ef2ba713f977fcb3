# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What `fastvlm ask` and `fastvlm chat` are told. Imports nothing that takes time, so that help comes at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..extras import require
from ..inference.answer_options import AnswerOptions
from ..inference.model_options import ModelOptions, RunOptions, checkpoint_or_bundled
from ..programs.options import filled


def model_options(options: Mapping[str, Any]) -> tuple[ModelOptions, RunOptions]:
    """
    The model that was named, or the one of a clone, and where it runs.

    Raises:
        ValueError: if none was named, and there is none; if a folder is not there, or an option has a value that it
            cannot have.
    """
    named = {**options, "pretrained": checkpoint_or_bundled(options["pretrained"])}
    return filled(ModelOptions, named), filled(RunOptions, options)


def answer_options(options: Mapping[str, Any], schema: Path | None = None) -> AnswerOptions:
    """
    How questions are answered.

    Raises:
        MissingLibraryError: if there is a schema, and the library for it is not installed.
        OSError, ValueError: if the schema's file cannot be read, or an option has a value that it cannot have.
    """
    config = filled(AnswerOptions, options)
    return config if schema is None else replace(config, schema=_read_schema(schema))


def _read_schema(path: Path) -> dict[str, Any]:
    require(["llguidance"], "schema", "--schema")
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--schema: {path} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ValueError(f"--schema: {path} has no JSON object.")
    return schema


def split_words(words: Sequence[str]) -> tuple[list[str], str]:
    """
    The images and the question of `fastvlm ask`.

    Raises:
        ValueError: if the last is no question: empty, or an image's name.
    """
    *images, question = words
    if not question.strip():
        raise ValueError("The question is empty.")
    if question == "-" or _is_file(question) or question.startswith(("http://", "https://", "data:")):
        raise ValueError(f"The question is missing: the last argument must be it, and {question!r:.100} is an image.")
    return images, question


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name
        return False
