# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm publish`. Nothing that takes time is imported before it runs, so that help comes at once."""

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ..programs.options import filled, with_options_of
from .errors import PublishError
from .publish_settings import PublishSettings

if TYPE_CHECKING:
    from .hub_transfer import Target


@with_options_of(PublishSettings, argument="source")
def publish_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write and verify the folder, upload nothing.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep the repository folder here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the repository has.")] = False,
    token: Annotated[str | None, typer.Option(help="Of the Hub. [default: the one logged in with]")] = None,
    **options: Any,
) -> None:
    """Publish a FastVLM checkpoint, or an adapter for one, on the Hugging Face Hub."""
    if dry_run and folder is None:
        raise typer.BadParameter("--dry-run leaves a folder behind: say where with --folder.")
    console = Console(stderr=True)
    try:
        settings = filled(PublishSettings, options)
        with ended_by_signals(), working_folder(folder) as place:
            from huggingface_hub import HfApi

            from .publication import publish

            result = publish(
                settings,
                Path(place),
                None if dry_run else HfApi(token=token),
                ask_to_overwrite(overwrite),
                lambda step: console.print(f"{step[0].upper()}{step[1:]} ...", markup=False, highlight=False),
            )
    except (OSError, PublishError) as error:
        console.print(f"[red]Not published.[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    print(f"{'Wrote and verified' if dry_run else 'Published and verified'} {result}")


def working_folder(folder: Path | None) -> AbstractContextManager[str]:
    """An empty folder: the user's, which stays, or one that is removed at the end."""
    if folder is None:
        return tempfile.TemporaryDirectory(prefix="fastvlm-publish-")
    if folder.exists() and not folder.is_dir():
        raise PublishError(f"{folder} is a file. `--folder` takes an empty folder, or one to be made.")
    if folder.exists() and any(folder.iterdir()):
        raise PublishError(f"{folder} is not empty.")
    folder.mkdir(parents=True, exist_ok=True)
    return nullcontext(str(folder))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have what would kill this process at once end it as Ctrl-C does, so that temporary folders are removed."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # what is being removed is removed
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in names)}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:  # not what `nohup` ignores
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ask_to_overwrite(overwrite: bool) -> Callable[["Target"], bool]:
    """The user's word on replacing what is on the Hub: given already, or asked for at a terminal."""

    def may_overwrite(target: "Target") -> bool:
        question = f"{target.repo_id} has {len(target.files)} files already. Replace them?"
        return overwrite or (sys.stdin.isatty() and typer.confirm(question))

    return may_overwrite
