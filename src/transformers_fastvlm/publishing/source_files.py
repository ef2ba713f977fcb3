# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The files of a checkpoint, found once, whether it is a folder or a repository on the Hub."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ..checkpoint_files import hub_file, weight_files
from .errors import PublishError
from .stored_tensors import StoredTensors, tensors_of

ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Everything that may be read but weights, of which a repository may have many that are not asked for.
_SMALL_FILES = ("*.json", "*.jinja", "*.md", "*.model", "*.txt", "LICENSE*")
_IN_FOLDERS = ("*/*.json", "*/*.md", "*/*.model", "*/*.txt", "*/LICENSE*")


@dataclass(frozen=True)
class CheckpointFiles:
    """
    A folder, or a repository on the Hub at one commit.

    Args:
        location: the folder, or the repository's id, as it was given.
        folder: where its files are on this machine. Weights from the Hub come when `weights` asks for them.
        names: of its files, without those in folders of its own.
        revision: the repository's commit; `None` for a folder.
    """

    location: str
    folder: Path
    names: frozenset[str]
    revision: str | None = None

    def find(self, name: str) -> Path | None:
        """One of its small files, if it has that."""
        return self.folder / name if name in self.names else None

    @property
    def is_on_hub(self) -> bool:
        return self.revision is not None

    @cached_property
    def weights(self) -> tuple[Path, ...]:
        """A model's safetensors files, in the order of their index."""
        return tuple(map(Path, weight_files(self.location, {"revision": self.revision})))

    @cached_property
    def adapter_tensors(self) -> StoredTensors:
        """An adapter's tensors, by their names in its file."""
        file = hub_file(self.location, ADAPTER_WEIGHTS, {"revision": self.revision})
        return {} if file is None else tensors_of([file])


def find_files(location: str, what: str = "") -> CheckpointFiles:
    """
    Look at a folder or a repository on the Hub, and fetch the latter's small files.

    Where the Hub does not answer, a repository is what earlier runs have left of it in the cache.

    Args:
        what: how messages go on after the location.

    Raises:
        PublishError: if the location is neither a folder nor a repository that can be found.
        HfHubHTTPError: if the Hub refuses to show it.
    """
    folder = Path(location)
    if location and folder.is_dir():
        return CheckpointFiles(location, folder, _names_in(folder))
    try:
        validate_repo_id(location)
    except HFValidationError as error:
        raise PublishError(f"{location or repr(location)}{what} is no folder, and no id of a repository.") from error
    if folder.exists():
        raise PublishError(f"{location}{what} is a file, not the folder of a checkpoint.")
    try:
        return _find_on_hub(location)
    except GatedRepoError:
        raise
    except (RepositoryNotFoundError, LocalEntryNotFoundError) as error:
        raise PublishError(
            f"{location}{what} cannot be found: it is no folder, and no repository that the Hub shows or that was "
            "downloaded before."
        ) from error


def _find_on_hub(repo_id: str) -> CheckpointFiles:
    fetched = snapshot_download(repo_id, allow_patterns=list(_SMALL_FILES), ignore_patterns=list(_IN_FOLDERS))
    folder, revision = Path(fetched), Path(fetched).name
    try:
        listed = HfApi().list_repo_files(repo_id, revision=revision)
        names = frozenset(name for name in listed if "/" not in name)
    except (HTTPError, OSError):
        names = _names_in(folder)
    return CheckpointFiles(repo_id, folder, names, revision)


def _names_in(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir() if path.is_file())
