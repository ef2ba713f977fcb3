# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM over HTTP."""
