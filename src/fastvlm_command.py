# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Where the `fastvlm` command starts: beside the package, because importing that brings torch and transformers.

`transformers_fastvlm.cli` and the commands that it mounts are loaded without the packages around them, which they
import as they run.
"""

import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_PACKAGE = "transformers_fastvlm"

# As transformers imports torchao, PyTorch warns of how that registers types, which is nothing to who runs a command.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)


class _BarePackages(MetaPathFinder):
    """Finds this package, and those inside it, as if they had no `__init__.py`."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname.partition(".")[0] == _PACKAGE else None
        if spec is None or spec.submodule_search_locations is None:
            return None
        bare = ModuleSpec(fullname, None, is_package=True)
        bare.submodule_search_locations = list(spec.submodule_search_locations)
        self.found.append(fullname)
        return bare


def load_command() -> ModuleType:
    """`transformers_fastvlm.cli`; the packages that it is in stay to be imported."""
    finder = _BarePackages()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(f"{_PACKAGE}.cli")
    finally:
        sys.meta_path.remove(finder)
        for name in finder.found:
            del sys.modules[name]


def main() -> None:
    """The `fastvlm` command."""
    load_command().app(prog_name="fastvlm")


if __name__ == "__main__":
    main()
