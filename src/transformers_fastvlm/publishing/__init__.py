# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Publishing: a FastVLM checkpoint, or an adapter for one, as a verified repository on the Hugging Face Hub."""

from .errors import PublishError
from .publication import publish
from .publish_settings import PublishSettings

__all__ = ["PublishError", "PublishSettings", "publish"]
