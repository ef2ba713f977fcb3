# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server: `fastvlm serve`, on transformers or on vLLM."""

from .configuration import ServingConfig
from .launch import serve

__all__ = ["ServingConfig", "serve"]
