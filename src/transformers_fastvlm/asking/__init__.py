# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Questions from the shell: one answer, or a conversation."""

from .conversation import Conversation
from .images import read_images

__all__ = ["Conversation", "read_images"]
