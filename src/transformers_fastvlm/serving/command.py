# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm serve`. Nothing that takes time is imported before it runs, so that help comes at once."""

import os
from dataclasses import replace
from typing import Any

from ..inference.model_options import ModelOptions, RunOptions, checkpoint_or_bundled
from ..programs.options import filled, with_options_of
from .configuration import ServingConfig

API_KEY = "FASTVLM_API_KEY"


@with_options_of(ModelOptions, optional=["pretrained"], without=["adapter", "static_cache"])
@with_options_of(RunOptions)
@with_options_of(ServingConfig)
def serve_command(**options: Any) -> None:
    """Answer over HTTP as OpenAI's API does. Without --model, a clone's bundled checkpoint answers."""
    from .launch import serve

    named = {**options, "pretrained": checkpoint_or_bundled(options["pretrained"])}
    config = filled(ServingConfig, options, model=filled(ModelOptions, named), run=filled(RunOptions, options))
    if config.api_key is None:
        config = replace(config, api_key=os.environ.get(API_KEY) or None)
    serve(config)
