# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Where the `fastvlm` command starts: beside the package, because importing that brings torch and transformers.

`transformers_fastvlm.cli` is loaded without its package, which the sub-commands then import as they need it.
"""

import importlib.util
import logging
import sys
from pathlib import Path

# As transformers imports torchao, PyTorch warns of how that registers types, which is nothing to who runs a command.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)


def main() -> None:
    """The `fastvlm` command."""
    package = importlib.util.find_spec("transformers_fastvlm")
    path = Path(package.submodule_search_locations[0]) / "cli.py"  # type: ignore[union-attr, index]
    spec = importlib.util.spec_from_file_location("transformers_fastvlm.cli", path)
    cli = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules["transformers_fastvlm.cli"] = cli
    spec.loader.exec_module(cli)  # type: ignore[union-attr]
    cli.app(prog_name="fastvlm")


if __name__ == "__main__":
    main()
