# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """
    A name to write to, in the same folder, which becomes `path` at the end of the context.

    Until then, and if the context is left by an exception, what was at `path` stays as it was.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def without_paths(text: str) -> str:
    """A text without the folders of whoever wrote it: of absolute paths, only the last part stays."""
    return re.sub(r"(?<![\w.:/])~?/(?:[^\s/]+/)*([^\s/]+)", r"\1", text)
