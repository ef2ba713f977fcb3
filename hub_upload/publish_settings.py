# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a user asks for when publishing, and the error that says why it cannot be done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

Variant = Literal["bf16", "fp16", "int8", "nf4"]
QUANTIZED_VARIANTS = ("int8", "nf4")


class PublishError(Exception):
    """Why a checkpoint cannot be published, in the user's terms. Nothing was uploaded when it is raised, unless it
    says otherwise."""


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
        license_file: the licence's text; `None` takes the source's.
        base_model: Hub id of what the weights come from, for the card and for an adapter's configuration.
        datasets: Hub ids of what they were trained on.
        languages: ISO 639-1 codes of what they were trained to write.
        modifications: what was done to the weights before, in the user's words.
        results: evaluation results, as `fastvlm evaluate --output` writes them.
        benchmark: time to first token, as `fastvlm bench ttft --json` writes it.
        max_shard_size: of a weight file, such as `"5GB"`.

    Raises:
        PublishError: if an id is not valid, or a file is missing.
    """

    source: str
    repo_id: str
    variant: Variant | None = None
    adapter: bool = False
    remote_code: bool = True
    license: str | None = None
    license_file: Path | None = None
    base_model: str | None = None
    datasets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    modifications: tuple[str, ...] = ()
    results: Path | None = None
    benchmark: Path | None = None
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
        for path in (self.license_file, self.results, self.benchmark):
            if path is not None and not path.is_file():
                raise PublishError(f"There is no file {path}.")


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
