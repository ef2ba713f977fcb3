# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks there are: how each is run, recorded, shown and drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ..programs.commands import console, draw, prepare_outputs
from .encoder_latency import run_encoder_benchmark
from .plots import draw_encoders, draw_ttft
from .records import encoder_record, training_record, ttft_record, write_record
from .report import Report, encoder_report, print_record, training_report, ttft_report
from .training import run_training_benchmark
from .ttft import run_ttft_benchmark


@dataclass(frozen=True)
class Kind:
    """
    A kind of benchmark.

    Args:
        run: from a configuration, and what is told of the progress, to a result.
        record: from a result and the command to what `records` describes.
        report: from a record to a table and lines below it.
        pictures: from a record to files in a folder; `None` where there is nothing to draw.
    """

    run: Callable[..., Any]
    record: Callable[[Any, str], dict[str, Any]]
    report: Report
    pictures: Callable[[dict[str, Any], Path], list[Path]] | None = None

    def measure(
        self, config: Any, command: str, json_path: Path | None = None, pictures: Path | None = None
    ) -> dict[str, Any]:
        """
        Run it, print the table, and write what else is asked for.

        Args:
            config: what to measure.
            command: that asks for it, for the record.
            json_path: file for the record.
            pictures: folder for pictures.

        Returns:
            the record.

        Raises:
            ValueError: if a file or folder cannot be written; before anything is measured.
        """
        errors = Console(stderr=True)
        prepare_outputs(json_path, pictures)
        with errors.status("starting") as status:
            result = self.run(config, status.update)
        record = self.record(result, command)
        print_record(record, self.report, console())
        if json_path is not None:
            write_record(record, json_path)
        if pictures is not None and self.pictures is not None:
            draw(self.pictures, record, pictures, errors)
        return record


ENCODER = Kind(run_encoder_benchmark, encoder_record, encoder_report, draw_encoders)
TTFT = Kind(run_ttft_benchmark, ttft_record, ttft_report, draw_ttft)
TRAIN = Kind(run_training_benchmark, training_record, training_report)
