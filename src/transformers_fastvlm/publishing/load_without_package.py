# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a repository folder's own code, as a reader without this package does, on the fixed inputs.

python load_without_package.py FOLDER OUTPUT.safetensors
"""

import runpy
import sys
from pathlib import Path

sys.modules["transformers_fastvlm"] = None  # type: ignore[assignment]  # importing it fails from here on

# ruff: noqa: E402
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, output = sys.argv[1:]
ours = runpy.run_path(str(Path(__file__).parents[1] / "inference" / "fixed_inputs.py"))
inputs = ours["fixed_inputs"](AutoProcessor.from_pretrained(folder, trust_remote_code=True))
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True, dtype="auto").eval()
save_file({**inputs, "logits": ours["last_logits"](model, inputs)}, output)
