# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a user asks for when publishing, and the error that says why it cannot be done."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from card_rules import LANGUAGE, LICENSES

Variant = Literal["bf16", "fp16", "int8", "nf4"]
QUANTIZED_VARIANTS = ("int8", "nf4")


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


@dataclass(frozen=True)
class PublishSettings:
    """
    Args:
        source: folder or Hub id of any loadable FastVLM checkpoint, or of a LoRA adapter for one.
        repo_id: where it goes, `ORG/NAME`.
        variant: dtype or quantization of the published weights; `None` keeps the source's dtype.
        adapter: publish a LoRA adapter as an adapter; otherwise it is merged into its base.
        remote_code: add code files, for readers without this package.
        license: identifier on the Hub; `None` takes the source's.
        license_name: of a licence that the Hub does not know, whose identifier is `other`.
        license_file: the licence's text; `None` takes the source's.
        base_model: Hub id of what the weights come from, for the card and for an adapter's configuration.
        datasets: Hub ids of what they were trained on.
        languages: ISO 639-1 codes of what they were trained to write.
        modifications: what was done to the weights before, in the user's words.
        results: evaluation results, as `fastvlm evaluate --output` writes them.
        benchmark: time to first token, as `fastvlm bench ttft --json` writes it.
        example_image: picture for the card's example; `None` draws a word.
        example_prompt: what to ask about it.
        max_shard_size: of a weight file, such as `"5GB"`.

    Raises:
        PublishError: if an id, a licence, a language or a size is not valid, or a file is missing.
    """

    source: str
    repo_id: str
    variant: Variant | None = None
    adapter: bool = False
    remote_code: bool = True
    license: str | None = None
    license_name: str | None = None
    license_file: Path | None = None
    base_model: str | None = None
    datasets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    modifications: tuple[str, ...] = ()
    results: Path | None = None
    benchmark: Path | None = None
    example_image: Path | None = None
    example_prompt: str = "What does it say?"
    max_shard_size: str = "5GB"

    def __post_init__(self) -> None:
        require_repo_id(self.repo_id)
        for name in (self.base_model, *self.datasets):
            if name is not None:
                require_repo_id(name)
        if self.variant is not None and self.variant not in get_args(Variant):
            raise PublishError(f"Unknown variant {self.variant!r}; known are {', '.join(get_args(Variant))}.")
        if self.adapter and self.variant in QUANTIZED_VARIANTS:
            raise PublishError(
                "An adapter has no quantized variant; leave `--variant` out, or `--adapter` to merge it."
            )
        if self.license is not None:
            require_license(self.license)
        if self.license_name is not None and self.license != "other":
            raise PublishError("`--license-name` goes with `--license other`.")
        for language in self.languages:
            if LANGUAGE.fullmatch(language) is None:
                raise PublishError(f"{language!r} is no language by its ISO 639 code in lower case, such as `en`.")
        if re.fullmatch(r"\s*\d+(?:\.\d+)?\s*[KMGT]B\s*", self.max_shard_size, re.IGNORECASE) is None:
            raise PublishError(f"{self.max_shard_size!r} is no size of a file, such as `5GB` or `500MB`.")
        for path in (self.license_file, self.results, self.benchmark, self.example_image):
            if path is not None and not path.is_file():
                raise PublishError(f"There is no file {path}.")


def require_license(identifier: str, origin: str = "") -> None:
    """
    Raises:
        PublishError: if the Hub does not know a licence.
    """
    if identifier not in LICENSES:
        similar = difflib.get_close_matches(identifier.lower(), LICENSES, 3)
        near = f"; near it are {', '.join(similar)}" if similar else ""
        raise PublishError(
            f"{identifier!r}{origin} is none of the Hub's licence identifiers{near}. "
            "A licence that the Hub does not know is `--license other --license-name NAME --license-file FILE`."
        )


def require_repo_id(name: str) -> None:
    """
    Raises:
        PublishError: if `name` is not of the form `ORG/NAME`, with the characters that the Hub allows.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise PublishError(f"{name!r} is no valid id of a repository: {error}") from error
    if name.count("/") != 1:
        raise PublishError(f"{name!r} is no valid id of a repository: it must be of the form ORG/NAME.")
