# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm export`. Nothing that takes time is imported before it runs, so that help comes at once."""

from typing import Any

from ..programs.commands import console
from ..programs.options import filled, with_options_of
from .configuration import ExportSettings


@with_options_of(ExportSettings, argument="source")
def export_command(**options: Any) -> None:
    """Write a checkpoint, or an adapter merged into one, in another format, and verify what was written."""
    settings = filled(ExportSettings, options)
    from .exporting import export

    done = export(settings)
    found = done.comparison
    told = (
        f"Wrote {done.folder}, {done.size / 1e6:.0f} MB. Its scores differ by {found.difference:.1e} of their length, "
        f"where {done.bound:.1e} may be; {found.same} of {found.count} answers are the same."
    )
    console().print(told, markup=False, highlight=False)
