# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""vLLM's `VLLM_MEDIA_CONNECTOR=fastvlm`: a local path that is not allowed is the client's mistake, not ours."""

from typing import Any

from vllm.multimodal.media.connector import MEDIA_CONNECTOR_REGISTRY, MediaConnector

from .vllm_plugin import EXTENSIONS


@MEDIA_CONNECTOR_REGISTRY.register(EXTENSIONS)
class FastVLMMediaConnector(MediaConnector):
    """vLLM's, whose `RuntimeError` a client would see as an internal error."""

    def _load_file_url(self, *args: Any) -> Any:
        if self.allowed_local_media_path is None:
            raise ValueError("Images by local path are not allowed here: send them as data URLs.")
        return super()._load_file_url(*args)
