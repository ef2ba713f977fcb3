# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a repository folder's own code, as a reader without this package does, on the fixed inputs.

python load_without_package.py FOLDER OUTPUT.safetensors
"""

import sys

sys.modules["transformers_fastvlm"] = None  # type: ignore[assignment]  # importing it fails from here on

# ruff: noqa: E402
from fixed_inputs import fixed_inputs, last_logits
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, output = sys.argv[1:]
inputs = fixed_inputs(AutoProcessor.from_pretrained(folder, trust_remote_code=True))
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True, dtype="auto").eval()
save_file({**inputs, "logits": last_logits(model, inputs)}, output)
