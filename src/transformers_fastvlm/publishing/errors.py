# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Why something cannot be published, in the user's terms."""

from collections.abc import Iterator
from contextlib import contextmanager


class PublishError(Exception):
    """Why a checkpoint cannot be published, in the user's terms. Nothing was uploaded when it is raised, unless it
    says otherwise."""


@contextmanager
def told_as(what: str) -> Iterator[None]:
    """Say in one line what cannot be done, whatever a damaged file makes another library raise."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:
        raise PublishError(f"{what}: {in_one_line(error)}") from error


def in_one_line(error: Exception) -> str:
    """What another library complains of."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
