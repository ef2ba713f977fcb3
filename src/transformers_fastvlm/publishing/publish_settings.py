# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a user asks for when publishing."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..export.configuration import DEFAULT_PRECISION, PRECISIONS
from .card_rules import LANGUAGE
from .errors import PublishError

Variant = Literal["bf16", "fp16", "int8", "nf4"]
QUANTIZED_VARIANTS = ("int8", "nf4")
EXPORTS = "exports"  # the folder in a repository


@dataclass(frozen=True)
class PublishSettings:
    """
    What is published, as what, and where. `fastvlm publish` has an option for each of these fields.

    Args:
        source: Folder or Hub id of a FastVLM checkpoint in any layout, or of a LoRA adapter for one.
        repo_id: Where it goes: ORG/NAME.
        private: Of a new repository. [default: the account's]
        revision: Branch to commit to, made if needed. [default: main]
        create_pr: Open a pull request.
        variant: Of the published weights: bf16, fp16, int8 or nf4. [default: as stored]
        adapter: Publish an adapter as it is, not merged into its base.
        remote_code: Add code for readers without this package.
        license: Hub identifier. [default: the source's]
        license_name: Of a licence that the Hub does not know, whose identifier is `other`.
        license_file: The licence's text. [default: the source's]
        base_model: Hub id of what the weights come from, for the card and for an adapter's configuration.
        datasets: Hub id of what they were trained on; repeatable. [default: the source's]
        languages: ISO 639-1 code of what they were trained to write; repeatable.
        modifications: What was done to the weights before, in your words; repeatable.
        results: Scores, as `fastvlm evaluate --output` writes them.
        benchmark: Time to first token, as `fastvlm bench ttft --json` writes it.
        example_image: Picture for the card's example. [default: a drawn word]
        example_prompt: What to ask about it.
        max_shard_size: Of a weight file.
        exports: For other runtimes, beside the weights: onnx or openvino, with a precision as in onnx:q4; repeatable,
            or with commas.

    Raises:
        PublishError: if an id, a variant, an export, a language or a size is not valid, options contradict each other,
            or a file is missing.
    """

    source: str
    repo_id: str
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
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
    exports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.repo_id, self.base_model, *self.datasets):
            if name is not None:
                require_repo_id(name)
        if self.create_pr and self.revision not in (None, "main"):
            raise PublishError("A pull request goes to `main`: leave out `--revision`, or `--create-pr`.")
        if self.variant is not None and self.variant not in get_args(Variant):
            raise PublishError(f"Unknown variant {self.variant!r}; known are {', '.join(get_args(Variant))}.")
        if self.adapter and self.variant in QUANTIZED_VARIANTS:
            raise PublishError(
                "An adapter has no quantized variant; leave `--variant` out, or `--adapter` to merge it."
            )
        if self.license_name is not None and self.license != "other":
            raise PublishError("`--license-name` goes with `--license other`.")
        self._check_exports()
        for language in self.languages:
            if LANGUAGE.fullmatch(language) is None:
                raise PublishError(f"{language!r} is no language by its ISO 639 code in lower case, such as `en`.")
        if re.fullmatch(r"\s*\d+(?:\.\d+)?\s*[KMGT]B\s*", self.max_shard_size, re.IGNORECASE) is None:
            raise PublishError(f"{self.max_shard_size!r} is no size of a file, such as `5GB` or `500MB`.")
        for path in (self.license_file, self.results, self.benchmark, self.example_image):
            if path is not None and not path.is_file():
                raise PublishError(f"There is no file {path}.")

    def _check_exports(self) -> None:
        if self.exports and self.adapter:
            raise PublishError("An adapter by itself has no exports: leave out `--export`, or `--adapter` to merge.")
        if self.exports and self.variant in QUANTIZED_VARIANTS:
            raise PublishError(
                f"Exports are made of whole weights: leave out `--export` or `--variant {self.variant}`."
            )
        for target, precision in self.export_precisions.items():
            known = PRECISIONS.get(target)
            if known is None:
                raise PublishError(f"Unknown export {target!r}; known are {', '.join(PRECISIONS)}.")
            if precision not in known:
                raise PublishError(f"An export to {target} has {', '.join(known)}, not {precision!r}.")

    @property
    def export_precisions(self) -> dict[str, str]:
        """The precision of each export, by its target."""
        pairs = (each.strip().partition(":") for exports in self.exports for each in exports.split(","))
        return {target: precision or DEFAULT_PRECISION for target, _, precision in pairs}


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
