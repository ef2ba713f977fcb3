# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm publish`, for who has a clone of this repository.

python hub_upload/publish.py checkpoints/tiny-reader --repo-id me/tiny-reader --license apache-2.0 --dry-run --folder x
"""

import sys

from fastvlm_command import main

if __name__ == "__main__":
    sys.argv.insert(1, "publish")
    main()
