# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes a FastVLM checkpoint, or an adapter for one, as a repository on the Hugging Face Hub.

    python hub_upload/publish.py checkpoints/tiny-reader --repo-id me/tiny-reader --license apache-2.0 --dry-run

Writes the whole repository into a folder, verifies the folder, uploads it as one commit, downloads that commit and
verifies it again.
"""

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub import HfApi
from rich.console import Console
from rich.markup import escape

from card_material import CardMaterial, read_card_material
from checkpoint_source import CheckpointSource, find_source, load_model, load_processor
from folder_files import files_in, sha256
from hub_transfer import Target, download, find_target, holds, upload
from licences import Licence, choose_licence
from publish_settings import PublishError, PublishSettings, told_as
from repository_folder import write_repository
from tensor_verification import verify_tensors, verify_vocabulary
from verification import Reference, reference_of, verify_contents, verify_model, verify_without_package

# What a download has besides: the client's notes, and the Hub's own file.
_NOT_OURS = (".cache/", ".gitattributes")


def write_and_verify(
    folder: Path,
    source: CheckpointSource,
    settings: PublishSettings,
    licence: Licence,
    material: CardMaterial,
    progress: Callable[[str], None],
) -> Reference:
    """
    Write the repository folder and check it against the source.

    Returns:
        what the source computes.

    Raises:
        PublishError: if it cannot be written, or is not what the source is.
    """
    progress(f"loading {source.location}")
    processor, model = load_processor(source), load_model(source, settings.variant, settings.adapter)
    with told_as(f"{source.location} cannot be asked about an image"):
        reference = reference_of(model, processor)
    progress(f"writing {folder}")
    left_out = write_repository(folder, model, processor, source, settings, licence, material)
    if left_out:
        progress(f"left out, since no configuration class has them: {', '.join(left_out)}")
    del model
    progress("verifying the folder")
    verify_contents(folder)
    verify_tensors(folder, source, settings)
    verify_vocabulary(folder, source)
    verify_model(folder, reference, source, settings)
    if settings.remote_code and not settings.adapter:
        progress("verifying the folder's code without this package")
        verify_without_package(folder, reference)
    return reference


def publish(
    settings: PublishSettings,
    folder: Path,
    api: HfApi | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    may_overwrite: Callable[[Target], bool] = lambda target: False,
    progress: Callable[[str], None] = lambda step: None,
) -> str:
    """
    Publish `settings.source` as `settings.repo_id`.

    Args:
        folder: an empty folder for the repository, or one to be made.
        api: the Hub's client; `None` writes the folder and verifies it, no more.
        private: whether a repository that has to be created is private.
        revision: branch to commit to, by default `main`.
        create_pr: open a pull request.
        may_overwrite: asked before other files on the Hub are replaced.

    Returns:
        where it is: an address, or the folder.

    Raises:
        PublishError: if anything stands against it.
    """
    if create_pr and revision not in (None, "main"):
        raise PublishError("A pull request goes to `main`: leave out `--revision`, or `--create-pr`.")
    source = find_source(settings)
    licence, material = choose_licence(source, settings), read_card_material(settings, source)
    if api is None:
        write_and_verify(folder, source, settings, licence, material, progress)
        return str(folder)
    target = find_target(api, settings.repo_id, revision)
    reference = write_and_verify(folder, source, settings, licence, material, progress)
    if holds(target, folder):
        return f"{api.endpoint}/{settings.repo_id}, which has these very files already"
    if target.has_content and not create_pr and not may_overwrite(target):
        raise PublishError(
            f"{settings.repo_id} has other files already. `--overwrite` replaces them, `--create-pr` proposes it."
        )
    message = f"Upload with transformers-fastvlm: {settings.variant or 'as stored'}"
    commit = upload(api, folder, target, message, private, create_pr, progress)
    with tempfile.TemporaryDirectory() as place:
        again = Path(place) / "download"
        progress("downloading the commit")
        download(api, commit, settings.repo_id, again)
        verify_download(folder, again)
        verify_model(again, reference, source, settings)
    return commit.pr_url or commit.commit_url


def verify_download(folder: Path, again: Path) -> None:
    """
    Raises:
        PublishError: if a downloaded repository differs from the folder that was uploaded.
    """
    ours, theirs = (
        {name: sha256(path) for name, path in files_in(place).items() if not name.startswith(_NOT_OURS)}
        for place in (folder, again)
    )
    if different := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
        raise PublishError(f"What was downloaded again differs from what was uploaded: {', '.join(different)}.")


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


def ask_to_overwrite(overwrite: bool) -> Callable[[Target], bool]:
    """The user's word on replacing what is on the Hub: given already, or asked for at a terminal."""

    def may_overwrite(target: Target) -> bool:
        question = f"{target.repo_id} has {len(target.files)} files already. Replace them?"
        return overwrite or (sys.stdin.isatty() and typer.confirm(question))

    return may_overwrite


def main(
    source: Annotated[str, typer.Argument(help="Folder or Hub id of a checkpoint, or of a LoRA adapter.")],
    repo_id: Annotated[str, typer.Option(help="Where it goes: ORG/NAME.")],
    private: Annotated[bool | None, typer.Option(help="Of a new repository. [default: the account's]")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to, made if needed. [default: main]")] = None,
    variant: Annotated[str | None, typer.Option(help="bf16, fp16, int8 or nf4. [default: as stored]")] = None,
    adapter: Annotated[bool, typer.Option("--adapter", help="Publish an adapter as it is, not merged.")] = False,
    remote_code: Annotated[bool, typer.Option(help="Add code for readers without this package.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write and verify the folder, upload nothing.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the repository has.")] = False,
    license_id: Annotated[
        str | None, typer.Option("--license", help="Hub identifier. [default: the source's]")
    ] = None,
    license_name: Annotated[str | None, typer.Option(help="Of a licence that the Hub does not know.")] = None,
    license_file: Annotated[Path | None, typer.Option(help="The licence's text. [default: the source's]")] = None,
    base_model: Annotated[str | None, typer.Option(help="Hub id of what the weights come from.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Hub id of what they were trained on; repeatable.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="ISO 639-1; repeatable. [default: en]")] = None,
    modification: Annotated[list[str] | None, typer.Option(help="Done to the weights before; repeatable.")] = None,
    results: Annotated[Path | None, typer.Option(help="Of `fastvlm evaluate --output`.")] = None,
    benchmark: Annotated[Path | None, typer.Option(help="Of `fastvlm bench ttft --json`.")] = None,
    example_image: Annotated[Path | None, typer.Option(help="For the card's example. [default: a word]")] = None,
    example_prompt: Annotated[str, typer.Option(help="What to ask about it.")] = "What does it say?",
    max_shard_size: Annotated[str, typer.Option(help="Of a weight file.")] = "5GB",
    folder: Annotated[Path | None, typer.Option(help="Keep the repository folder here.")] = None,
    token: Annotated[str | None, typer.Option(help="Of the Hub. [default: the one logged in with]")] = None,
) -> None:
    """Publish a FastVLM checkpoint, or an adapter for one, on the Hugging Face Hub."""
    console = Console(stderr=True)
    if dry_run and folder is None:
        raise typer.BadParameter("--dry-run leaves a folder behind: say where with --folder.")
    try:
        settings = PublishSettings(
            source,
            repo_id,
            variant=variant,  # type: ignore[arg-type]  # checked there
            adapter=adapter,
            remote_code=remote_code,
            license=license_id,
            license_name=license_name,
            license_file=license_file,
            base_model=base_model,
            datasets=tuple(dataset or ()),
            languages=tuple(language or ("en",)),
            modifications=tuple(modification or ()),
            results=results,
            benchmark=benchmark,
            example_image=example_image,
            example_prompt=example_prompt,
            max_shard_size=max_shard_size,
        )
        with ended_by_signals(), working_folder(folder) as place:
            result = publish(
                settings,
                Path(place),
                None if dry_run else HfApi(token=token),
                private,
                revision,
                create_pr,
                ask_to_overwrite(overwrite),
                lambda step: console.print(f"{step[0].upper()}{step[1:]} ...", markup=False, highlight=False),
            )
    except (OSError, PublishError) as error:
        console.print(f"[red]Not published.[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    print(f"{'Wrote and verified' if dry_run else 'Published and verified'} {result}")


if __name__ == "__main__":
    # A traceback with the values of variables would show the token.
    app = typer.Typer(pretty_exceptions_show_locals=False)
    app.command()(main)
    app()
