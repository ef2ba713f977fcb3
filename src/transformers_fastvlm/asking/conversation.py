# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A conversation in the terminal."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..image_reading import image_name
from ..inference.answer_options import AnswerOptions
from ..inference.answerer import Answerer
from ..programs.mistakes import in_one_line, is_users_mistake
from .images import read_images

HELP = "/image PATH shows an image with what you say next, /new starts over. Ctrl-C stops an answer, Ctrl-D leaves."


class Conversation:
    """
    What was said and shown, and what is typed next.

    Args:
        answerer: answers.
        options: how.
        write: takes pieces of answers.
        say: takes lines about the conversation.
        images: shown with what is said first.
    """

    def __init__(
        self,
        answerer: Answerer,
        options: AnswerOptions,
        write: Callable[[str], Any],
        say: Callable[[str], Any],
        images: Sequence[Image.Image] = (),
    ):
        self.messages: list[dict[str, Any]] = []
        self._answerer, self._options, self._write, self._say = answerer, options, write, say
        self._images = list(images)

    def take(self, line: str) -> None:
        """Do what a line says: a command, or something to answer. Mistakes are told, and nothing has happened then."""
        word, _, rest = line.strip().partition(" ")
        try:
            if not word:
                return
            if word == "/image":
                self._show(rest.strip())
            elif word == "/new":
                self.messages, self._images = [], []
            elif word == "/help":
                self._say(HELP)
            elif word.startswith("/") and "/" not in word[1:]:
                self._say(f"There is no command {word}. {HELP}")
            else:
                self._answer(line)
        except Exception as error:
            if not is_users_mistake(error):
                raise
            self._say(f"error: {in_one_line(error)}")

    def _show(self, names: str) -> None:
        if not names:
            raise ValueError("/image needs the path or address of an image.")
        images = read_images([names] if Path(names).is_file() else _unquoted(names))
        self._images += images
        sizes = ", ".join(f"{image.width}×{image.height}" for image in images)
        self._say(f"{image_name(names)}: {sizes} pixels, shown with what you say next.")

    def _answer(self, text: str) -> None:
        content = [{"type": "image", "image": image} for image in self._images] + [{"type": "text", "text": text}]
        asked = [*self.messages, {"role": "user", "content": content}]
        stream = self._answerer.stream(asked, self._options)
        answer = ""
        try:
            for piece in stream:
                answer += piece
                self._write(piece)
        except KeyboardInterrupt:
            stream.cancel()  # and the next answer waits until it has stopped
            self._say(" (stopped)")
        else:
            self._write("\n")
            if stream.answer.finish_reason == "length":
                self._say("(cut off: --max-new-tokens or the model's context ended)")
        if answer:
            self.messages = [*asked, {"role": "assistant", "content": answer}]
            self._images = []


def _unquoted(names: str) -> list[str]:
    """Paths as terminals paste them, in quotes or with backslashes."""
    try:
        return shlex.split(names)
    except ValueError:
        return [names]


def converse(conversation: Conversation, prompt: str = "> ") -> None:
    """Take lines from standard input until it ends, or Ctrl-D; Ctrl-C while nothing is answered drops the line."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        import readline  # noqa: F401  (editing, and earlier lines by the arrow keys)
    while True:
        try:
            line = input(prompt if is_terminal else "")
            conversation.take(line)
        except KeyboardInterrupt:
            print("\n(Ctrl-D leaves)", file=sys.stderr)
        except EOFError:
            if is_terminal:
                print()
            return
