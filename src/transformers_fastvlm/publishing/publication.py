# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""From a source to a repository: written into a folder, verified, uploaded as one commit, and verified again."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, constants

from ..export import ExportSettings, export
from .card_material import CardMaterial, read_card_material
from .checkpoint_source import CheckpointSource, resolve_source
from .errors import PublishError, told_as
from .folder_files import files_in, sha256
from .hub_lists import HubLists, hub_lists
from .hub_transfer import Target, download, find_target, holds, upload
from .licences import Licence, choose_licence
from .publish_settings import EXPORTS, PublishSettings
from .repository_folder import write_repository
from .source_loading import load_model, load_processor
from .tensor_verification import verify_tensors, verify_vocabulary
from .verification import Reference, reference_of, verify_contents, verify_model, verify_without_package

# What a download has besides: the client's notes, and the Hub's own file.
_NOT_OURS = (".cache/", ".gitattributes")


def publish(
    settings: PublishSettings,
    folder: Path,
    api: HfApi | None = None,
    may_overwrite: Callable[[Target], bool] = lambda target: False,
    progress: Callable[[str], None] = lambda step: None,
) -> str:
    """
    Publish `settings.source` as `settings.repo_id`.

    Args:
        folder: an empty folder for the repository, or one to be made.
        api: the Hub's client; `None` writes the folder and verifies it, no more.
        may_overwrite: asked before other files on the Hub are replaced.
        progress: told what begins.

    Returns:
        where it is: an address, or the folder.

    Raises:
        PublishError: if anything stands against it.
    """
    lists = hub_lists(constants.ENDPOINT if api is None else api.endpoint)
    source = resolve_source(settings)
    licence = choose_licence(source, settings, lists.licenses)
    material = read_card_material(settings, source)
    target = None if api is None else find_target(api, settings.repo_id, settings.revision)
    reference = write_folder(folder, source, settings, licence, material, progress)
    verify_folder(folder, reference, source, settings, lists, progress)
    if api is None or target is None:
        return str(folder)
    if holds(target, folder):
        return f"{api.endpoint}/{settings.repo_id}, which has these very files already"
    if target.has_content and not settings.create_pr and not may_overwrite(target):
        raise PublishError(
            f"{settings.repo_id} has other files already. `--overwrite` replaces them, `--create-pr` proposes it."
        )
    message = f"Upload with transformers-fastvlm: {settings.variant or 'as stored'}"
    commit = upload(api, folder, target, message, settings.private, settings.create_pr, progress)
    progress("downloading the commit")
    verify_commit(api, commit, folder, reference, source, settings)
    return commit.pr_url or commit.commit_url


def write_folder(
    folder: Path,
    source: CheckpointSource,
    settings: PublishSettings,
    licence: Licence,
    material: CardMaterial,
    progress: Callable[[str], None],
) -> Reference:
    """
    Load the source, and write the repository's folder.

    Returns:
        what the source computes.

    Raises:
        PublishError: if it cannot be loaded, asked or written.
    """
    progress(f"loading {source.location}")
    processor, model = load_processor(source), load_model(source, settings.variant, settings.adapter)
    with told_as(f"{source.location} cannot be asked about an image"):
        reference = reference_of(model, processor)
    progress(f"writing {folder}")
    left_out = write_repository(folder, model, processor, source, settings, licence, material)
    del model
    write_exports(folder, settings, progress)
    if left_out:
        progress(f"left out, since no configuration class has them: {', '.join(left_out)}")
    return reference


def write_exports(folder: Path, settings: PublishSettings, progress: Callable[[str], None]) -> None:
    """
    Export what is in a repository's folder into `exports/TARGET` of it.

    Raises:
        PublishError: if a model has parts that a format cannot say, or what was written does not give its answers.
    """
    for target, precision in settings.export_precisions.items():
        progress(f"exporting to {target}")
        (folder / EXPORTS).mkdir(exist_ok=True)
        with told_as(f"The weights cannot be exported to {target}"):
            export(ExportSettings(str(folder), target, folder / EXPORTS / target, precision=precision))


def verify_folder(
    folder: Path,
    reference: Reference,
    source: CheckpointSource,
    settings: PublishSettings,
    lists: HubLists,
    progress: Callable[[str], None],
) -> None:
    """
    Check a repository's folder against the source, with this package and without it.

    Raises:
        PublishError: if it is not what the source is, or what the Hub takes.
    """
    progress("verifying the folder")
    verify_contents(folder, lists)
    verify_tensors(folder, source, settings)
    verify_vocabulary(folder, source)
    verify_model(folder, reference, source, settings)
    if settings.remote_code and not settings.adapter:
        progress("verifying the folder's code without this package")
        verify_without_package(folder, reference)


def verify_commit(
    api: HfApi,
    commit: CommitInfo,
    folder: Path,
    reference: Reference,
    source: CheckpointSource,
    settings: PublishSettings,
) -> None:
    """
    Download a commit, and check that it is the folder, and computes what the source does.

    Raises:
        PublishError: if it is not, or cannot be read back.
    """
    with tempfile.TemporaryDirectory() as place:
        again = Path(place) / "download"
        download(api, commit, settings.repo_id, again)
        verify_download(folder, again)
        verify_model(again, reference, source, settings)


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
