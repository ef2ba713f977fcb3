# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm data`. Nothing that takes time is imported before it runs, so that help comes at once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..extras import require
from ..inference.model_options import checkpoint_or_bundled
from ..programs.commands import console, prepare_outputs
from ..programs.options import filled, with_options_of
from .arguments import DataArguments


@with_options_of(DataArguments, argument="dataset", without=["streaming", "faulty_rows"])
def data_command(
    model: Annotated[
        str | None, typer.Option(help="Whose processor reads them. \\[default: a clone's bundled one]")
    ] = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Side of the images. \\[default: the model's]")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="PNG file to draw a few rows into, as the model sees them.")
    ] = None,
    **options: Any,
) -> None:
    """What training would make of a data set: its layout, faulty rows by reason, tokens and images of the others."""
    data = filled(DataArguments, options)
    checkpoint = checkpoint_or_bundled(model)
    require(["accelerate", "datasets", "matplotlib"], "train", "`fastvlm data`")
    prepare_outputs(picture, option="--picture")
    from ..processing_fastvlm import FastVLMProcessor
    from .data import prepare_dataset, recognised_layout
    from .inspection import draw_rows, report_lines

    out = console()
    size: dict[str, Any] = {} if resolution is None else {"size": resolution}
    processor = FastVLMProcessor.from_pretrained(checkpoint, **size)
    dataset = data.load()
    out.print(f"Layout: {recognised_layout(dataset, data.row_format)}.", markup=False, highlight=False)
    rows, report = prepare_dataset(dataset, processor, data.row_format, "skip")
    for line in report_lines(report):
        out.print(line, markup=False, highlight=False)
    if picture is not None:
        out.print(f"Drew {draw_rows(rows, processor, data.row_format, picture)}", markup=False, highlight=False)
