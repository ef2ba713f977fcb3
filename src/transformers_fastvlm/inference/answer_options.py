# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How a question is answered, as options of commands and servers. Imports no torch, so that help comes at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AnswerOptions:
    """
    How a question is answered.

    Args:
        max_new_tokens: Tokens of the answer, at most; at its end the answer is cut off.
        temperature: 0 takes the likeliest token each time, more draws from what is likely.
        top_p: With a temperature: draw from the likeliest tokens that have this probability together.
        seed: With a temperature: draws the same each time. [default: others each time]
        stop: Text that ends the answer, and is no part of it.
        tiles: Look at an overview of each image and at its four quarters. [default: as the checkpoint says]
        schema: JSON schema of the answer.

    Raises:
        ValueError: if a number is out of its range, or a stop text is empty.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    tiles: bool | None = None
    schema: Mapping[str, Any] | None = field(default=None, metadata={"option": False})

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"`max_new_tokens` must be at least 1, not {self.max_new_tokens}.")
        if not 0 <= self.temperature <= 100:
            raise ValueError(f"`temperature` must be from 0 to 100, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"`top_p` must be above 0 and at most 1, not {self.top_p}.")
        if not all(self.stop):
            raise ValueError("A text of `stop` is empty.")

    def generation_arguments(self) -> dict[str, Any]:
        """What `generate` is given for them; stop texts, the seed and the schema are not among it."""
        if self.temperature == 0:
            return {"max_new_tokens": self.max_new_tokens, "do_sample": False, "temperature": None, "top_p": None,
                    "top_k": None}  # fmt: skip
        return {
            "max_new_tokens": self.max_new_tokens,
            "do_sample": True,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0,
        }
