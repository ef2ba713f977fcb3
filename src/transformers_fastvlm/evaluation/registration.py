# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the entry point `lmms_eval.models` names: `lmms_eval --model fastvlm` finds the model here."""

from typing import Any


def manifest() -> Any:
    """lmms-eval's `ModelManifest` for [`FastVLM`]."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="fastvlm", simple_class_path="transformers_fastvlm.evaluation.harness_model.FastVLM")
