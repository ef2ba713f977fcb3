# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The Hub's rules for the YAML metadata of a model card, as far as its answers and documentation state them."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from .hub_lists import BUNDLED, HubLists

BASE_MODEL_RELATIONS = frozenset({"adapter", "merge", "quantized", "finetune"})
LANGUAGE = re.compile(r"[a-z]{2,3}|multilingual|code")
REPO_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?<!\.git)|[A-Za-z0-9][\w.-]*")
YAML_BLOCK = re.compile(r"\s*---[\r\n]+(?P<yaml>[\S\s]*?)[\r\n]+---(\r\n|\n|$)")
STRING_LISTS = ("tags", "datasets", "metrics")


class CardLoader(yaml.SafeLoader):
    """YAML as the Hub reads it: duplicate keys are errors, and `no` is a string, not false."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicated mapping key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


CardLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")
)


def card_metadata(content: str) -> dict[str, Any] | None:
    """The metadata of a README.md, None where it has no block. Raises `yaml.YAMLError` where it cannot be read."""
    block = YAML_BLOCK.match(content)
    if block is None:
        return None
    metadata = yaml.load(block["yaml"], Loader=CardLoader)
    if not isinstance(metadata, dict):
        raise yaml.YAMLError("the metadata must be a mapping")
    return metadata


def card_answer(content: str, lists: HubLists = BUNDLED) -> dict[str, list[dict[str, str]]]:
    """What `/api/validate-yaml` answers for a README.md: its errors and warnings."""
    try:
        metadata = card_metadata(content)
    except yaml.YAMLError as error:
        return {"errors": [{"message": f"Invalid YAML: {error}"}], "warnings": []}
    if not metadata:
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    return {"errors": [{"message": message} for message in metadata_errors(metadata, lists)], "warnings": []}


def card_errors(content: str, lists: HubLists = BUNDLED) -> list[str]:
    """What the Hub would refuse in a README.md."""
    return [error["message"] for error in card_answer(content, lists)["errors"]]


def metadata_errors(metadata: dict[str, Any], lists: HubLists = BUNDLED) -> list[str]:
    """What the Hub would refuse in a model card's metadata."""
    of_lists = [*license_errors(metadata, lists.licenses), *pipeline_errors(metadata, lists.pipeline_tags)]
    rules = (value_errors, string_list_errors, base_model_errors, model_index_errors)
    return of_lists + [error for rule in rules for error in rule(metadata)]


def as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def license_errors(metadata: dict[str, Any], known: frozenset[str]) -> Iterator[str]:
    if "license" in metadata:
        for license_id in as_list(metadata["license"]):
            if not is_text(license_id) or license_id not in known:
                yield f'"license" must be one of the Hub\'s license identifiers, not {license_id!r}'
    for key in ("license_name", "license_link"):
        if key in metadata and not is_text(metadata[key]):
            yield f'"{key}" must be a string'


def pipeline_errors(metadata: dict[str, Any], known: frozenset[str]) -> Iterator[str]:
    if "pipeline_tag" in metadata and str(metadata["pipeline_tag"]) not in known:
        yield f'"pipeline_tag" must be one of the Hub\'s tasks, not {metadata["pipeline_tag"]!r}'


def value_errors(metadata: dict[str, Any]) -> Iterator[str]:
    if not isinstance(metadata.get("widget", []), list):
        yield '"widget" must be an array'
    if "language" in metadata:
        for language in as_list(metadata["language"]):
            if not is_text(language) or LANGUAGE.fullmatch(language) is None:
                yield f'"language" must be ISO 639-1, 639-2 or 639-3 codes in lower case, not {language!r}'
    library = metadata.get("library_name", "library")
    if not is_text(library) or library != library.lower():
        yield f'"library_name" must be a string in lower case, not {library!r}'


def string_list_errors(metadata: dict[str, Any]) -> Iterator[str]:
    for key in STRING_LISTS:
        values = metadata.get(key, [])
        if not isinstance(values, list):
            yield f'"{key}" must be an array'
        elif not all(is_text(value) for value in values):
            yield f'"{key}" must hold strings only'


def base_model_errors(metadata: dict[str, Any]) -> Iterator[str]:
    for model in as_list(metadata["base_model"]) if "base_model" in metadata else []:
        if not is_text(model) or REPO_ID.fullmatch(model) is None or max(map(len, model.split("/"))) > 96:
            yield f'"base_model" with value {model!r} is not valid: it must be a model id of the Hub'
    if metadata.get("base_model_relation", "finetune") not in BASE_MODEL_RELATIONS:
        yield f'"base_model_relation" must be one of {sorted(BASE_MODEL_RELATIONS)}'


def model_index_errors(metadata: dict[str, Any]) -> Iterator[str]:
    if "model-index" not in metadata:
        return
    if not isinstance(metadata["model-index"], list):
        yield '"model-index" must be an array'
        return
    for at, model in enumerate(metadata["model-index"]):
        where = f"model-index[{at}]"
        if not isinstance(model, dict) or not is_text(model.get("name")):
            yield f'"{where}.name" is required'
        elif not isinstance(model.get("results"), list):
            yield f'"{where}.results" is required'
        else:
            for number, result in enumerate(model["results"]):
                yield from result_errors(f"{where}.results[{number}]", result)


def result_errors(where: str, result: Any) -> Iterator[str]:
    result = result if isinstance(result, dict) else {}
    for part, keys in (("task", ("type",)), ("dataset", ("name", "type"))):
        values = result.get(part)
        for key in keys:
            if not isinstance(values, dict) or not is_text(values.get(key)):
                yield f'"{where}.{part}.{key}" is required'
    metrics = result.get("metrics")
    if not isinstance(metrics, list):
        yield f'"{where}.metrics" must be an array'
        return
    for number, metric in enumerate(metrics):
        if not isinstance(metric, dict) or not is_text(metric.get("type")) or metric.get("value") is None:
            yield f'"{where}.metrics[{number}]" needs a type and a value'
