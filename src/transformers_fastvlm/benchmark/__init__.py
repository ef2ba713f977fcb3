# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What `fastvlm bench` runs: our models and their peers, timed side by side in one process.

One module per subject (`encoder`), which returns plain dataclasses; `timing` and `machine` measure, `report` shows.
"""
