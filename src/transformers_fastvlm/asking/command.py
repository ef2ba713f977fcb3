# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""`fastvlm ask` and `fastvlm chat`. Nothing that takes time is imported before they run."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..inference.answer_options import AnswerOptions
from ..inference.model_options import ModelOptions, RunOptions
from ..programs.options import with_options_of
from .configuration import answer_options, model_options, split_words
from .terminal import quieten, reader_may_leave, write


@with_options_of(ModelOptions, optional=["pretrained"])
@with_options_of(RunOptions)
@with_options_of(AnswerOptions)
def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar='[IMAGE]... "QUESTION"', help="Paths, addresses, or - for standard input; the question."
        ),
    ],
    schema: Annotated[Path | None, typer.Option(help="File with a JSON schema, which the answer is held to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer with its tokens and times, as JSON.")] = False,
    **options: Any,
) -> None:
    """Answer one question about images. Without --model, a clone's bundled checkpoint answers."""
    names, question = split_words(words)
    config = answer_options(options, schema)
    model, run = model_options(options)
    quieten()
    from ..inference.answerer import load_answerer
    from .images import read_images

    content = [{"type": "image", "image": image} for image in read_images(names)]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
    answerer = load_answerer(model, run)
    with reader_may_leave(), answerer.stream(messages, config) as stream:
        for piece in stream:
            if not as_json:
                write(piece)
        answer = stream.answer
        if as_json:
            figures = {**asdict(answer), "tokens_per_second": answer.tokens_per_second}
            write(json.dumps({"answer": figures.pop("text"), **figures}, ensure_ascii=False))
        write("\n")
    if answer.finish_reason == "length":
        print(f"The answer was cut off after {answer.tokens} tokens (--max-new-tokens).", file=sys.stderr)


@with_options_of(ModelOptions, optional=["pretrained"])
@with_options_of(RunOptions)
@with_options_of(AnswerOptions)
def chat(
    images: Annotated[list[str] | None, typer.Argument(help="Shown with what you say first.")] = None,
    **options: Any,
) -> None:
    """Talk about images. /image PATH shows one, Ctrl-C stops an answer, Ctrl-D leaves."""
    config = answer_options(options)
    model, run = model_options(options)
    quieten()
    from ..inference.answerer import load_answerer
    from .conversation import HELP, Conversation, converse
    from .images import read_images

    shown = read_images(images or [])

    def say(line: str) -> None:
        write(f"{line}\n", sys.stderr)

    answerer = load_answerer(model, run)
    if sys.stdin.isatty():
        say(HELP)
    with reader_may_leave():
        converse(Conversation(answerer, config, write, say, shown))
