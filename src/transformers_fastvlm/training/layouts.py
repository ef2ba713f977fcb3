# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
What the columns of a row mean: the layouts that data sets with images come in, each to messages and images.

| layout | columns |
|---|---|
| `messages` | turns with `role` and `content`: text with `<image>`s or without, or parts |
| `llava` | turns with `from` and `value` |
| `cauldron` | turns with `user` and `assistant` |
| `preference` | `prompt`, `chosen`, `rejected` |
| `completion` | `prompt`, `completion` |
| `question` | `question`, and `answer` or a list of answers |
| `caption` | `caption` or `text` of an image |
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["json", "image", "messages", "assistant", "placeholders", "length"]
Message = dict[str, Any]

CONVERSATION_COLUMNS = ("messages", "conversations", "conversation", "texts")
# Last those that WebDataset shards have, where a file's ending is its column.
IMAGE_COLUMNS = ("images", "image", "img", "image_path", "jpg", "jpeg", "png", "webp")
_QUESTIONS, _ANSWERS = ("question", "query"), ("answer", "answers", "multiple_choice_answer")
_CAPTIONS = ("caption", "captions", "text", "txt")
_LLAVA_ROLES = {"human": "user", "gpt": "assistant"}
_OF_TURNS = ("messages", "llava", "cauldron")
_ROLES = ("system", "user", "assistant")
IMAGE_TOKEN = "<image>"
# Begins the names of columns that say where a row is from.
SOURCE = "source_"
# Asked about images that only have a caption.
QUESTION = "Describe the image."
# What becomes of an example that is too long; the first is the default.
TOO_LONG = ("shorten", "drop")


class RowError(ValueError):
    """A row that cannot be trained on.

    Args:
        message: what is wrong, in the terms of the data set.
        reason: the kind of fault, by which rows are counted.
    """

    def __init__(self, message: str, reason: Reason):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        return type(self), (str(self), self.reason)  # it crosses from one process to another


@dataclass(frozen=True)
class Columns:
    """
    Which columns a row's layout is in.

    Args:
        layout: its name.
        words: the columns with text, by what they are in the layout.
        images: the column with the images; `None` where there is none.
    """

    layout: str
    words: Mapping[str, str]
    images: str | None

    def __str__(self) -> str:
        named = ", ".join(f"`{column}`" for column in self.words.values())
        where = f"images in `{self.images}`" if self.images else "no column of images"
        return f"{_TITLES[self.layout]} in {named}, {where}"


_TITLES = {
    "messages": "messages",
    "llava": "LLaVA conversations",
    "cauldron": "turns of user and assistant",
    "preference": "preferences",
    "completion": "prompts and completions",
    "question": "questions and answers",
    "caption": "captions",
}


def find_columns(
    row: Mapping[str, Any], layout: str | None = None, messages: str | None = None, images: str | None = None
) -> Columns:
    """
    The layout of a row.

    Args:
        row: with the WebDataset columns, if it has some, taken apart.
        layout: that it is in; else the first that fits.
        messages: column with the turns; else one of `CONVERSATION_COLUMNS`.
        images: column with the images; else the first of `IMAGE_COLUMNS` that is there.

    Raises:
        RowError: if none fits; it says why.
    """
    pictures = images or next((name for name in IMAGE_COLUMNS if row.get(name) is not None), None)
    names = [layout] if layout else _OF_TURNS if messages else LAYOUTS
    for name in names:
        if (words := LAYOUTS[name].find(row, messages)) is not None and (name != "caption" or pictures):
            return Columns(name, words, pictures)
    raise RowError(_no_layout(row, layout, messages), "messages")


def _no_layout(row: Mapping[str, Any], layout: str | None, messages: str | None) -> str:
    if not layout or layout in _OF_TURNS:
        for column in [messages] if messages else CONVERSATION_COLUMNS:
            if column in row:
                return f"`{column}` is not a list of messages but {described(row[column])}."
    named = ", ".join(f"`{name}`" for name in row if not name.startswith(SOURCE)) or "none"
    known = LAYOUTS[layout].needs if layout else ", or ".join(each.needs for each in LAYOUTS.values())
    return f"Its columns are {named}; there must be {known}."


def taken_apart(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of WebDataset shards, whose files are its columns, with what its JSON file has as columns."""
    inside = row.get("json")
    if "__key__" not in row or not isinstance(inside, dict):
        return row
    files = {name: value for name, value in row.items() if name != "json" and value is not None}
    # A shard's JSON names the picture as it was called before.
    names = set() if files.keys().isdisjoint(IMAGE_COLUMNS) else set(IMAGE_COLUMNS)
    return {name: value for name, value in inside.items() if name not in names} | files


def to_messages(row: Mapping[str, Any], columns: Columns, question: str) -> list[Message]:
    """
    The turns of a row, of roles system, user and assistant, with contents as they are.

    Args:
        question: asked about images that only have a caption.

    Raises:
        RowError: if a turn is none.
    """
    return [_checked(turn) for turn in LAYOUTS[columns.layout].turns(row, columns.words, question)]


def accepted_answers(row: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    """The answers that a row has a column of, first the one that is trained on; none of other layouts."""
    if columns.layout != "question":
        return ()
    value = row[columns.words["answer"]]
    first = one_of(value)
    others = [str(each) for each in all_answers(value) if isinstance(each, (str, int, float))]
    return tuple(sorted(others, key=lambda answer: answer != str(first)))


def to_preference(row: Mapping[str, Any], columns: Columns) -> tuple[list[Message], list[Message], list[Message]]:
    """
    The turns of a prompt, and of the chosen and the rejected answer to it.

    Raises:
        RowError: if the row is no preference.
    """
    if columns.layout != "preference":
        raise RowError("There is no `chosen` and `rejected`, so there is no preference to learn.", "messages")
    asked = _turns_of(row[columns.words["prompt"]], "user") if "prompt" in columns.words else []
    answers = [_turns_of(row[columns.words[name]], "assistant") for name in ("chosen", "rejected")]
    shared = 0 if asked else _shared_turns(*answers)
    asked = asked or answers[0][:shared]
    return (
        [_checked(turn) for turn in asked],
        *([_checked(turn) for turn in turns[shared:]] for turns in answers),  # type: ignore[return-value]
    )


def _shared_turns(first: Sequence[Message], second: Sequence[Message]) -> int:
    """How many turns two conversations begin with in common: the prompt, where no column has it."""
    count = 0
    while count < min(len(first), len(second)) - 1 and first[count] == second[count]:
        count += 1
    return count


@dataclass(frozen=True)
class _Layout:
    """
    Args:
        needs: what there must be, in a sentence.
        find: the columns by their parts; `None` if the row has another layout.
        turns: of a row that has it.
    """

    needs: str
    find: Callable[[Mapping[str, Any], str | None], dict[str, str] | None]
    turns: Callable[[Mapping[str, Any], Mapping[str, str], str], list[Message]]


def _conversations(*keys: str) -> Callable[[Mapping[str, Any], str | None], dict[str, str] | None]:
    def find(row: Mapping[str, Any], named: str | None) -> dict[str, str] | None:
        for column in [named] if named else CONVERSATION_COLUMNS:
            value = as_turns(row.get(column))
            if value and all(keys[0] in turn for turn in value):
                return {"turns": column}
        return None

    return find


def _named(**parts: tuple[str, ...]) -> Callable[[Mapping[str, Any], str | None], dict[str, str] | None]:
    def find(row: Mapping[str, Any], _: str | None) -> dict[str, str] | None:
        found = {}
        for part, names in parts.items():
            column = next((name for name in names if row.get(name) is not None), None)
            if column is not None:
                found[part] = column
            elif "" not in names:
                return None
        return found

    return find


def as_turns(value: Any) -> list[dict[str, Any]] | None:
    """A list of dictionaries, out of how files and libraries keep it: JSON in a text, or a dictionary of lists."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, dict) and value and all(isinstance(each, list) for each in value.values()):
        value = [dict(zip(value, each)) for each in zip(*value.values())]
    if isinstance(value, (list, tuple)) and value and all(isinstance(turn, dict) for turn in value):
        return list(value)
    return None


def _messages(row: Mapping[str, Any], words: Mapping[str, str], _: str) -> list[Message]:
    return [dict(turn) for turn in as_turns(row[words["turns"]]) or []]


def _llava(row: Mapping[str, Any], words: Mapping[str, str], _: str) -> list[Message]:
    turns = as_turns(row[words["turns"]]) or []
    return [{"role": _LLAVA_ROLES.get(turn["from"], turn["from"]), "content": turn.get("value")} for turn in turns]


def _cauldron(row: Mapping[str, Any], words: Mapping[str, str], _: str) -> list[Message]:
    turns = as_turns(row[words["turns"]]) or []
    return [{"role": role, "content": turn.get(role)} for turn in turns for role in ("user", "assistant")]


def _preference(row: Mapping[str, Any], words: Mapping[str, str], _: str) -> list[Message]:
    prompt, chosen, _rejected = to_preference(row, Columns("preference", words, None))
    return prompt + chosen


def _completion(row: Mapping[str, Any], words: Mapping[str, str], _: str) -> list[Message]:
    return _turns_of(row[words["prompt"]], "user") + _turns_of(row[words["completion"]], "assistant")


def _question(row: Mapping[str, Any], words: Mapping[str, str], _: str) -> list[Message]:
    answer = one_of(row[words["answer"]])
    return [{"role": "user", "content": row[words["question"]]}, {"role": "assistant", "content": answer}]


def _caption(row: Mapping[str, Any], words: Mapping[str, str], question: str) -> list[Message]:
    answer = one_of(row[words["caption"]])
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _turns_of(value: Any, role: str) -> list[Message]:
    """Turns, or the one turn that a text is."""
    turns = as_turns(value)
    return [dict(turn) for turn in turns] if turns else [{"role": role, "content": value}]


def all_answers(value: Any) -> list[Any]:
    """The answers of a row: itself, or those of a list, of texts or of VQA's `{"answer": ...}`."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    if isinstance(value, dict) and isinstance(value.get("answer"), list):
        value = value["answer"]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [each.get("answer") if isinstance(each, dict) else each for each in values]


def one_of(value: Any) -> Any:
    """The answer that most people gave, of several as often given the first."""
    answers = all_answers(value)
    if not answers or not all(isinstance(each, str) for each in answers):
        return answers[0] if len(answers) == 1 else None
    counts = Counter(answers)
    return max(counts, key=lambda answer: counts[answer])


def _checked(turn: Message) -> Message:
    role, content = turn.get("role"), turn.get("content")
    if role not in _ROLES:
        raise RowError(f"Unknown role {role!r}; known are system, user and assistant.", "messages")
    if isinstance(content, (int, float)) and not isinstance(content, bool):  # what CSV files make of an answer
        content = str(content)
    if not isinstance(content, (str, list, tuple)):
        raise RowError(f"The content of a {role} message is {described(content)}, not text or parts.", "messages")
    return {"role": role, "content": content}


def described(value: Any) -> str:
    return "empty" if value is None or value in ([], (), "") else f"a {type(value).__name__}"


LAYOUTS: dict[str, _Layout] = {
    "preference": _Layout(
        "`chosen` and `rejected`",
        _named(prompt=("prompt", ""), chosen=("chosen",), rejected=("rejected",)),
        _preference,
    ),
    "messages": _Layout("turns with `role` and `content`", _conversations("role"), _messages),
    "llava": _Layout("turns with `from` and `value`", _conversations("from"), _llava),
    "cauldron": _Layout("turns with `user` and `assistant`", _conversations("user"), _cauldron),
    "completion": _Layout(
        "`prompt` and `completion`", _named(prompt=("prompt",), completion=("completion",)), _completion
    ),
    "question": _Layout("`question` and `answer`", _named(question=_QUESTIONS, answer=_ANSWERS), _question),
    "caption": _Layout("an image with a `caption` or `text`", _named(caption=_CAPTIONS), _caption),
}
# Every column that a layout may be in.
KNOWN_COLUMNS = (
    *CONVERSATION_COLUMNS,
    *IMAGE_COLUMNS,
    *_QUESTIONS,
    *_ANSWERS,
    *_CAPTIONS,
    *("prompt", "completion", "chosen", "rejected", "__key__", "json"),
)
