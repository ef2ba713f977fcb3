# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What commands and scripts share: how they end on mistakes, write files and ask for libraries."""
