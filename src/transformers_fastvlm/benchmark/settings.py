# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks' configurations share: names, checks, and random models of a configuration."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoModel, PretrainedConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OURS = "ours"


class MissingPeerError(ImportError):
    """A peer was asked for whose library is not installed."""


def require_known(kind: str, names: Iterable[str], known: Mapping[str, object]) -> None:
    """
    Raises:
        ValueError: if a name is not known.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"Unknown {kind} {name!r}; known: {', '.join(known)}.")


def require_installed(what: str, modules: Iterable[str], extras: str) -> None:
    """
    Raises:
        MissingPeerError: if a module is not installed; it says which, and the extras that install them.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise MissingPeerError(
            f"{what} needs {' and '.join(missing)}, which is not installed: "
            f"pip install 'transformers-fastvlm[{extras}]'"
        )


def random_model(config: PretrainedConfig, dtype: torch.dtype, auto_class: Any = AutoModel) -> Any:
    """A model with random weights, the same at every call, in eval mode, else with the defaults of its class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return auto_class.from_config(config, dtype=dtype).eval()
