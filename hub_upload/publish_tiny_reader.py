# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes the bundled checkpoint, with its scores; further options are those of `fastvlm publish`.

python hub_upload/publish_tiny_reader.py --repo-id me/tiny-reader --dry-run --folder x
"""

import sys
from pathlib import Path

from fastvlm_command import main

ROOT = Path(__file__).parent.parent
TINY_READER = ROOT / "checkpoints" / "tiny-reader"
OPTIONS = {
    "--license": "apache-2.0",
    "--license-file": ROOT / "LICENSE",
    "--results": TINY_READER / "evaluation" / "results.json",
}

if __name__ == "__main__":
    options = [str(word) for option in OPTIONS.items() for word in option]
    sys.argv[1:1] = ["publish", str(TINY_READER), *options]
    main()
