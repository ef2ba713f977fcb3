# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm finetune`. Nothing that takes time is imported before it runs, so that help comes at once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..programs.commands import command_line
from ..programs.mistakes import parsers_in_one_line
from ..programs.options import with_options_of
from ..training.arguments import DataArguments
from .arguments import FinetuneArguments

# What `HfArgumentParser` calls `--eval_metric` is `--eval-metric` here; both know either.
SETTINGS: dict[str, Any] = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "token_normalize_func": lambda name: name.replace("_", "-"),
}


@with_options_of(FinetuneArguments, optional=["model"])
@with_options_of(DataArguments, optional=["dataset"])
def finetune_command(
    context: typer.Context,
    recipe: Annotated[Path | None, typer.Option(help="YAML file of options; those of the command line win.")] = None,
    output_dir: Annotated[str, typer.Option(help="Where the adapter goes.")] = "adapter",
    **options: Any,
) -> None:
    """Fine-tune on any data set with images: LoRA, QLoRA, DPO, all weights.

    Every option of transformers' TrainingArguments is one, too, such as --learning_rate; with --method dpo, of TRL's
    DPOConfig. Several GPUs: accelerate launch -m transformers_fastvlm.scripts.finetune_lora, with the same options.
    """
    given = {"recipe": recipe, "output_dir": output_dir, **options}
    arguments = [
        f"--{name}={value}"
        for name, value in given.items()
        if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"
    ]
    from .finetune_lora import main

    with parsers_in_one_line():
        main([*arguments, *context.args], command_line())
