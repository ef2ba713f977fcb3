# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What to install for what: the libraries beyond the core, and the extras of this package that bring them."""

from collections.abc import Iterable
from importlib.util import find_spec


class MissingLibraryError(ImportError):
    """A capability needs a library that is not installed."""


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported."""
    return find_spec(module) is not None


def require(modules: Iterable[str], extra: str, what: str = "This") -> None:
    """
    Args:
        modules: names of top-level modules.
        extra: of this package, which installs them; several with a comma between them.
        what: needs them.

    Raises:
        MissingLibraryError: if a module is not installed; it says which, and the extra that installs it.
    """
    if missing := [module for module in modules if not is_installed(module)]:
        raise MissingLibraryError(
            f"{what} needs {' and '.join(missing)}, which is not installed: "
            f"pip install 'transformers-fastvlm[{extra}]'"
        )
