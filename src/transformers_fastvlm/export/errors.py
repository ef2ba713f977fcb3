# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while exporting."""


class ExportError(ValueError):
    """A model cannot be written in a format, or what was written is not the model."""
