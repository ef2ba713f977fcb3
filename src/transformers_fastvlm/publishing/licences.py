# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The licence that weights are published under, and the files that go with it."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint_formats import ORIGINAL_LICENSE
from .checkpoint_source import CheckpointSource
from .errors import PublishError
from .folder_files import read_text
from .hub_lists import BUNDLED
from .publish_settings import QUANTIZED_VARIANTS, PublishSettings

_LICENSE_FILES = ("LICENSE", "LICENSE_MODEL", "LICENSE.md", "LICENSE.txt")
_AGREEMENT = "Apple Machine Learning Research Model"
ATTRIBUTION = f"{_AGREEMENT} is licensed under the {_AGREEMENT} License Agreement."
_QUANTIZATION = {
    "int8": "The decoder's linear layers were rounded to 8-bit weights (torchao).",
    "nf4": "The decoder's linear layers were rounded to 4-bit weights (NF4, bitsandbytes).",
}


@dataclass(frozen=True)
class Licence:
    """
    Args:
        identifier: on the Hub.
        text: of the licence, if there is one to go along.
        name: where the identifier is `other`.
        link: to its text, where the identifier is `other`.
        modifications: of the weights since whoever licensed them.
    """

    identifier: str
    text: str | None
    modifications: tuple[str, ...]
    name: str | None = None
    link: str | None = None

    @property
    def is_original(self) -> bool:
        return self.identifier == ORIGINAL_LICENSE

    def write(self, folder: Path) -> None:
        """Write `LICENSE`, and for the authors' licence `NOTICE`: its attribution and the modifications."""
        if self.text is not None:
            (folder / "LICENSE").write_text(self.text, encoding="utf-8")
        if self.is_original:
            changes = "\n".join(f"- {change}" for change in self.modifications)
            notice = f"{ATTRIBUTION}\n\nThis is a Model Derivative, with these modifications:\n\n{changes}\n"
            (folder / "NOTICE").write_text(notice, encoding="utf-8")


def choose_licence(
    source: CheckpointSource, settings: PublishSettings, known: frozenset[str] = BUNDLED.licenses
) -> Licence:
    """
    The licence that the source comes under, or the user's for weights that are the user's.

    Args:
        known: the Hub's identifiers.

    Raises:
        PublishError: if none is known, another one than the authors' is asked for weights made from theirs, or its
            text is missing, which has to go along, or the Hub does not know it.
    """
    text_file = settings.license_file or _license_file(source)
    text = None if text_file is None else read_text(text_file)
    if source.is_original_derived:
        return _original_licence(source, settings, text)
    return _users_licence(source, settings, text, known)


def _original_licence(source: CheckpointSource, settings: PublishSettings, text: str | None) -> Licence:
    if settings.license not in (None, ORIGINAL_LICENSE):
        raise PublishError(
            f"{source.location} has the authors' weights, or weights made from them. Their licence, "
            f"`{ORIGINAL_LICENSE}`, holds for all derivatives: they cannot be published under {settings.license!r}."
        )
    if text is None or _AGREEMENT not in text:
        raise PublishError(
            f"Weights under `{ORIGINAL_LICENSE}` may only be passed on with a copy of the {_AGREEMENT} License "
            f"Agreement, which is not beside {source.location}. It is the file LICENSE of the authors' repository "
            "(apple/FastVLM-0.5B); give it with `--license-file`."
        )
    return Licence(ORIGINAL_LICENSE, text, _modifications(source, settings))


def _users_licence(
    source: CheckpointSource, settings: PublishSettings, text: str | None, known: frozenset[str]
) -> Licence:
    identifier = settings.license or source.metadata.get("license") or source.config.weights_license
    if identifier is None:
        raise PublishError(
            "No licence is known for these weights. Say which with `--license`, such as `--license apache-2.0`."
        )
    if not isinstance(identifier, str):
        raise PublishError(f"The card of {source.location} names no one licence. Say which with `--license`.")
    _require_known(identifier, "" if settings.license else f", which the card of {source.location} names,", known)
    modifications = _modifications(source, settings)
    if identifier != "other":
        return Licence(identifier, text, modifications)
    link = source.metadata.get("license_link")
    link = "LICENSE" if text is not None else link if str(link).startswith("https://") else None
    name = settings.license_name or source.metadata.get("license_name")
    if name is None or link is None:
        raise PublishError(
            "The licence `other` needs a name (`--license-name`) and its text (`--license-file`, or a file LICENSE "
            "beside the weights)."
        )
    return Licence(identifier, text, modifications, str(name), str(link))


def _require_known(identifier: str, origin: str, known: frozenset[str]) -> None:
    if identifier not in known:
        similar = difflib.get_close_matches(identifier.lower(), known, 3)
        near = f"; near it are {', '.join(similar)}" if similar else ""
        raise PublishError(
            f"{identifier!r}{origin} is none of the Hub's licence identifiers{near}. "
            "A licence that the Hub does not know is `--license other --license-name NAME --license-file FILE`."
        )


def _license_file(source: CheckpointSource) -> Path | None:
    places = (source.given, source.model)
    return next((file for files in places for name in _LICENSE_FILES if (file := files.find(name))), None)


def _modifications(source: CheckpointSource, settings: PublishSettings) -> tuple[str, ...]:
    changes = list(settings.modifications)
    if source.adapter is not None:
        rank = source.adapter_config.get("r")
        deed = "accompanied by" if settings.adapter else "merged with"
        changes.append(f"The weights are {deed} a LoRA adapter of rank {rank}, trained with further data.")
    elif source.format != "own":
        changes.append(
            f"Converted from the {source.format} layout to that of transformers-fastvlm: tensors and configuration "
            "renamed, an <image> placeholder token and a processor added, values unchanged."
        )
    if settings.variant in QUANTIZED_VARIANTS:
        changes.append(_QUANTIZATION[settings.variant])
    elif settings.variant is not None:
        changes.append(f"Stored in {settings.variant}; the encoder in float32 where that is fp16.")
    return tuple(changes) or ("Stored anew, values unchanged.",)
