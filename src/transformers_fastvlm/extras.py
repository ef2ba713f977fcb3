# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What to install for what: libraries beyond the core, the extras of this package that bring them, what is there."""

from collections.abc import Iterable
from importlib import metadata
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


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those that are installed, by the names that pip knows them by."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
