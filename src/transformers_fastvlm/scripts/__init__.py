# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Programs for `python -m` and `accelerate launch -m`, each also a `fastvlm` command."""
