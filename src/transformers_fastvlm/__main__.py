# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m transformers_fastvlm`, for launchers that start modules: the `fastvlm` command."""

from .cli import app

app(prog_name="fastvlm")
