# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What to install for what."""

from collections.abc import Iterable
from importlib.util import find_spec


class MissingLibraryError(ImportError):
    """A capability needs a library that is not installed."""


def require(modules: Iterable[str], extra: str) -> None:
    """
    Args:
        modules: names of top-level modules.
        extra: of this package, which installs them.

    Raises:
        MissingLibraryError: if a module is not installed; it says which, and the extra that installs it.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise MissingLibraryError(
            f"This needs {' and '.join(missing)}, which is not installed: pip install 'transformers-fastvlm[{extra}]'"
        )
