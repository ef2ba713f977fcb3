# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
What `fastvlm bench` runs: a checkpoint's encoder, its way from image to first token, and its training, timed.

`configurations` says what is measured, `kinds` how each benchmark is run, recorded, shown and drawn. The first two
take further subjects to time beside ours, their configurations' `peers`: `EncoderSubject` and `VlmSubject`.
"""
