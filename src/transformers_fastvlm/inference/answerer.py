# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How a request is answered: what the commands, servers and demos call."""

import atexit
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import torch
from PIL import Image
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from .answer_options import AnswerOptions
from .answer_text import AnswerText
from .json_answers import JsonAnswers
from .model_loading import base_of, load
from .model_options import ModelOptions, RunOptions
from .optimize import optimize_for_inference

Message = Mapping[str, Any]
FinishReason = Literal["stop", "length", "cancelled"]
_DEFAULTS = AnswerOptions()


@dataclass(frozen=True)
class Answer:
    """
    A whole answer, or what there is of one that was cancelled.

    Args:
        text: without the end of the turn, and the text of `stop` that ended it.
        finish_reason: `"stop"` at the turn's end or a text of `stop`, `"length"` where a limit or the decoder's
            context cut it off, `"cancelled"`.
        prompt_tokens: of the prompt, visual ones included.
        tokens: of the answer, its end included.
        time_to_first_token: seconds from the images to the first token; `None` if there was none.
        seconds: from the images to the end.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    tokens: int
    time_to_first_token: float | None
    seconds: float

    @property
    def tokens_per_second(self) -> float | None:
        """Of the tokens after the first; `None` where there are none."""
        if self.time_to_first_token is None or self.tokens < 2:
            return None
        return (self.tokens - 1) / max(self.seconds - self.time_to_first_token, 1e-9)


class Answerer:
    """
    Answers conversations with a loaded model, one at a time; threads may share it.

    Args:
        model: as `load_model` gives it.
        processor: its processor.
    """

    def __init__(self, model: Any, processor: Any):
        self.model = model
        self.processor = processor
        self._turn = threading.Lock()
        self._json_answers: JsonAnswers | None = None

    def prepare(self, messages: Sequence[Message], options: AnswerOptions = _DEFAULTS) -> Any:
        """Model inputs of a conversation; as [`prepare_inputs`]."""
        return prepare_inputs(self.processor, messages, options)

    def stream(self, messages: Sequence[Message], options: AnswerOptions = _DEFAULTS) -> "AnswerStream":
        """
        An answer as it is made: iterate over it for its text.

        Args:
            messages: of a conversation, as for [`prepare_inputs`].
            options: how it is answered.

        Raises:
            ValueError: if the conversation cannot be answered, or no answer be held to the schema, before anything is
                computed by the model.
            MissingLibraryError: if there is a schema, and the library for it is not installed.
        """
        start = time.perf_counter()
        processors = self.logits_processors(options)
        return AnswerStream(self, self.prepare(messages, options), options, processors, start)

    def logits_processors(self, options: AnswerOptions) -> LogitsProcessorList:
        """What `generate` needs besides, for one answer, to hold it to the schema; nothing where there is none."""
        if options.schema is None:
            return LogitsProcessorList()
        if self._json_answers is None:
            text_config = base_of(self.model).config.text_config
            self._json_answers = JsonAnswers(self.processor.tokenizer, text_config.vocab_size, self.end_ids)
        return LogitsProcessorList([self._json_answers.processor(options.schema)])

    @property
    def end_ids(self) -> list[int]:
        """Tokens that end an answer."""
        ends = base_of(self.model).generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    def answer(self, messages: Sequence[Message], options: AnswerOptions = _DEFAULTS) -> Answer:
        """The whole answer; as [`Answerer.stream`]."""
        with self.stream(messages, options) as stream:
            for _ in stream:
                pass
            return stream.answer


def load_answerer(model: ModelOptions, run: RunOptions = RunOptions()) -> Answerer:  # noqa: B008
    """
    Answers of a checkpoint.

    Raises:
        ImportError, OSError, ValueError: as `load_model` and `optimize_for_inference` do.
    """
    device = run.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        loaded, processor = load(model, device)
    except OSError as error:
        if model.pretrained in str(error):
            raise
        raise OSError(f"The model {model.pretrained!r} cannot be loaded: {error}") from error  # the Hub's name none
    if run.optimize:
        if model.adapter is not None:
            loaded = loaded.merge_and_unload()
        optimize_for_inference(loaded)
    return Answerer(loaded, processor)


def prepare_inputs(processor: Any, messages: Sequence[Message], options: AnswerOptions) -> Any:
    """
    Model inputs of a conversation that is to be answered.

    Args:
        processor: of the model.
        messages: each `{"role": "system" | "user" | "assistant", "content": ...}`, the content a text or a list of
            `{"type": "text", "text": str}` and `{"type": "image", "image": PIL.Image.Image}`. Whatever is in a text is
            text, `<image>` and `<|im_end|>`, too.
        options: how it is answered.

    Returns:
        `input_ids` and `attention_mask`, `(1, tokens)`, int64, and with images `pixel_values`, `(crops, 3, R, R)`,
        float32.

    Raises:
        ValueError: if it is no such conversation, or no user's turn is at its end.
    """
    _check_messages(messages)
    tiles = {} if options.tiles is None else {"do_tile": options.tiles}
    return processor.apply_chat_template(
        [dict(message) for message in messages],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        sanitize_control_tokens=True,
        processor_kwargs=tiles,
    )


def _check_messages(messages: Sequence[Message]) -> None:
    """Refuse what the template would take for something else: parts with addresses, which transformers opens."""
    if not isinstance(messages, (list, tuple)) or not messages:
        raise ValueError("There is no message to answer.")
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, (list, tuple)) else []:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "image" and not (set(part) == {"type", "image"} and isinstance(part["image"], Image.Image)):
                raise ValueError("A part of type 'image' must have a PIL image as `image`, and nothing else.")
            if kind not in ("image", "text"):
                raise ValueError(f"FastVLM takes parts of type 'text' and 'image', not {kind!r}.")
    last = messages[-1]
    content = last.get("content") if isinstance(last, Mapping) else None
    if not isinstance(last, Mapping) or last.get("role") != "user":
        raise ValueError("The last message of a conversation must be the user's.")
    if not content or (isinstance(content, str) and not content.strip()):
        raise ValueError("The question is empty.")


class AnswerStream:
    """
    An answer that is being made, by a thread: iterating gives its text, token by token, in whole characters.

    At the end of a `with` block, and where an iteration is given up, the work stops.
    """

    def __init__(
        self, answerer: Answerer, inputs: Any, options: AnswerOptions, processors: LogitsProcessorList, start: float
    ):
        self._answerer, self._inputs, self._options, self._processors = answerer, inputs, options, processors
        self._start = start
        self._first: float | None = None
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._text = AnswerText(answerer.processor.tokenizer, options.stop)
        self._cancelled = threading.Event()
        self._result: Answer | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fastvlm-answer", daemon=True)
        _running.add(self)
        self._thread.start()

    def __iter__(self) -> Iterator[str]:
        """
        Raises:
            Exception: what the model raised.
        """
        try:
            while (piece := self._pieces.get()) is not None:
                yield piece
        except GeneratorExit:
            self.cancel()
            raise
        self._pieces.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "AnswerStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.cancel()
        self._thread.join()

    def cancel(self) -> None:
        """Stop at the next token, if it has not ended yet; may be called from any thread, and does not wait."""
        self._cancelled.set()

    @property
    def answer(self) -> Answer:
        """
        What has become of it, after it has ended: waits for that.

        Raises:
            Exception: what the model raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _run(self) -> None:
        try:
            with self._answerer._turn:
                if not self._cancelled.is_set():
                    self._generate()
            self._put(self._text.finish())
            self._result = self._collected()
        except BaseException as error:
            self._error = error
        finally:
            self._pieces.put(None)
            _running.discard(self)

    def _generate(self) -> None:
        model, options = self._answerer.model, self._options
        inputs = self._inputs.to(model.device)
        with _seeded(options.seed, model.device):
            model.generate(
                **inputs,
                **options.generation_arguments(),
                logits_processor=self._processors,
                streamer=_Tokens(self._token),
                stopping_criteria=StoppingCriteriaList([_Until(self._is_over)]),
            )

    def _token(self, token_id: int) -> None:
        if self._first is None:
            self._first = time.perf_counter()
        self._put(self._text.push(token_id))

    def _put(self, piece: str) -> None:
        if piece:
            self._pieces.put(piece)

    def _is_over(self) -> bool:
        return self._cancelled.is_set() or self._text.is_stopped

    def _collected(self) -> Answer:
        ids = self._text.token_ids
        reason: FinishReason = "length"
        if self._text.is_stopped or (ids and ids[-1] in self._answerer.end_ids):
            reason = "stop"
        elif self._cancelled.is_set():
            reason = "cancelled"
        return Answer(
            text=self._text.text,
            finish_reason=reason,
            prompt_tokens=self._inputs["input_ids"].shape[1],
            tokens=len(ids),
            time_to_first_token=None if self._first is None else self._first - self._start,
            seconds=time.perf_counter() - self._start,
        )


_running: WeakSet[AnswerStream] = WeakSet()


@atexit.register
def _stop_all() -> None:
    """A thread that computes while the interpreter ends would abort the process."""
    streams = list(_running)
    for stream in streams:
        stream.cancel()
    for stream in streams:
        stream._thread.join()


class _Tokens(BaseStreamer):
    """Hands the tokens of one answer on; `generate` gives the prompt first."""

    def __init__(self, take: Any):
        self._take = take
        self._is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        if self._is_prompt:
            self._is_prompt = False
            return
        for token_id in value.flatten().tolist():
            self._take(token_id)

    def end(self) -> None:
        pass


class _Until(StoppingCriteria):
    def __init__(self, is_over: Any):
        self._is_over = is_over

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        return torch.full((input_ids.shape[0],), self._is_over(), device=input_ids.device, dtype=torch.bool)


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Random numbers of a seed, and after it those that there would have been without."""
    if seed is None:
        yield
        return
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        torch.manual_seed(seed)
        yield


__all__ = ["Answer", "AnswerStream", "Answerer", "load_answerer", "prepare_inputs"]
