# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the server's routes call: models by name, requests prepared and answered."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..inference.answer_options import AnswerOptions
from ..inference.answerer import Answer, Answerer, load_answerer
from ..inference.joint_decoding import Event, JointAnswer
from ..programs.mistakes import is_users_mistake
from .configuration import ServingConfig
from .conversations import to_conversation
from .engine import Engine, Lane
from .errors import RequestError
from .image_sources import ImageSources
from .metrics import Metrics

logger = logging.getLogger(__name__)
_PREPARING_THREADS = 4  # images are decoded, resized and fetched in them


class Service:
    """
    A model that is being served.

    Args:
        config: of the server.
        answerer: with the model; that is a `PeftModel` with the configuration's adapters, if there are any.
    """

    def __init__(self, config: ServingConfig, answerer: Answerer):
        self.config = config
        self.is_stopping = False
        self.model_names = config.model_names
        self.created = int(time.time())
        self._answerer = answerer
        base = Lane(answerer.model)
        self._lanes = dict.fromkeys(config.model_names, base)
        self._lanes |= {name: Lane(answerer.model, name) for name in config.adapters_by_name}
        self._sources = ImageSources(config)
        self._engine = Engine(config.batch_size)
        self._threads = ThreadPoolExecutor(_PREPARING_THREADS, thread_name_prefix="fastvlm-prepare")
        self.metrics = Metrics(lambda: self._engine.waiting, lambda: self._engine.running)

    @classmethod
    def load(cls, config: ServingConfig) -> "Service":
        """
        The model with its adapters, tried on a short text.

        Raises:
            ImportError, OSError, ValueError: if it cannot be loaded, or its decoder keeps no cache that requests can
                share.
        """
        answerer = load_answerer(config.model, config.run)
        if named := config.adapters_by_name:
            answerer.model = _with_adapters(answerer.model, named)
        service = cls(config, answerer)
        try:
            service._try_out()
        except BaseException:
            service.close()
            raise
        return service

    @property
    def names(self) -> list[str]:
        """What requests may ask for: the model, then its adapters."""
        return [self.model_names[0], *self.config.adapters_by_name]

    @property
    def is_healthy(self) -> bool:
        return self._engine.is_alive and not self.is_stopping

    def lane(self, name: str) -> Lane:
        """
        Raises:
            RequestError: if there is no model of that name.
        """
        if name not in self._lanes:
            known = ", ".join(self.names)
            raise RequestError(f"There is no model {name[:200]!r} here; there are: {known}.", 404, "model_not_found")
        return self._lanes[name]

    async def start(self, name: str, contents: Sequence[Any], options: AnswerOptions) -> "RunningAnswer":
        """
        Have a request answered.

        Args:
            name: of the model or adapter.
            contents: of the messages, as `to_conversation` takes them.
            options: how it is answered.

        Raises:
            RequestError: if it cannot be.
        """
        lane, running = self.lane(name), RunningAnswer(self.metrics)
        loop = asyncio.get_running_loop()

        def prepare() -> JointAnswer:
            conversation = to_conversation(contents, self._sources, self.config.max_images)
            return JointAnswer(self._answerer, conversation, options, running.emit, self.config.timeout)

        try:
            work = loop.run_in_executor(self._threads, prepare)
            answer = await asyncio.wait_for(work, self.config.timeout)
        except asyncio.TimeoutError:
            raise _took_too_long(self.config.timeout) from None
        except RequestError:
            raise
        except Exception as error:
            if is_users_mistake(error):
                raise RequestError(" ".join(str(error).split())) from error
            raise
        running.cancel = answer.cancel  # type: ignore[method-assign]
        try:
            self._engine.submit(lane, answer)
        except RuntimeError as error:
            raise stopping() from error
        return running

    def close(self) -> None:
        """Cancel what is not finished."""
        self.is_stopping = True
        self._engine.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _try_out(self) -> None:
        options = AnswerOptions(max_new_tokens=2)
        messages = [{"role": "user", "content": "Hello"}]
        for lane in dict.fromkeys(self._lanes.values()):
            ended = threading.Event()
            outcome: list[Event] = []

            def emit(event: Event, ended: threading.Event = ended, outcome: list[Event] = outcome) -> None:
                if not isinstance(event, str):
                    outcome.append(event)
                    ended.set()

            self._engine.submit(lane, JointAnswer(self._answerer, messages, options, emit))
            ended.wait()
            if isinstance(outcome[0], BaseException):
                raise outcome[0]


def _with_adapters(model: Any, named: dict[str, str]) -> Any:
    from ..extras import require

    require(["peft"], "train", "An adapter")
    from peft import PeftModel

    (first, source), *others = named.items()
    model = PeftModel.from_pretrained(model, source, adapter_name=first)
    for name, source in others:
        model.load_adapter(source, adapter_name=name)
    for name, settings in model.peft_config.items():
        if settings.is_prompt_learning:
            raise ValueError(f"The adapter {name} is of the kind {settings.peft_type.value}, which is not served.")
    return model.eval()


def stopping() -> RequestError:
    return RequestError("The server is stopping.", 503, "stopping", headers={"Retry-After": "10"})


def _took_too_long(seconds: float) -> RequestError:
    return RequestError(f"The answer took longer than {seconds:g} seconds.", 504, "timeout")


class RunningAnswer:
    """An answer that another thread makes, for the event loop: iterating gives its text, and at last the answer."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def emit(self, event: Event) -> None:
        """From any thread."""
        if isinstance(event, Answer):
            self._metrics.count_answer(event)
        elif isinstance(event, BaseException):
            self._metrics.count_failure(event)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    cancel: Callable[[], None]

    async def __aiter__(self) -> AsyncIterator[str | Answer]:
        """
        Raises:
            RequestError: if it could not be finished.
        """
        while True:
            event = await self._events.get()
            if isinstance(event, TimeoutError):
                raise RequestError(str(event), 504, "timeout")
            if isinstance(event, BaseException):
                raise self._failed(event)
            if isinstance(event, Answer) and event.finish_reason == "cancelled":
                raise stopping()
            yield event
            if isinstance(event, Answer):
                return

    @staticmethod
    def _failed(error: BaseException) -> RequestError:
        if isinstance(error, ValueError) and is_users_mistake(error):
            return RequestError(" ".join(str(error).split()))
        logger.error("An answer failed", exc_info=error)
        return RequestError("The model failed on this request; the server's log has more.", 500, "model_error")

    async def whole(self) -> Answer:
        """
        The answer, when it is finished.

        Raises:
            RequestError: if it could not be finished.
        """
        async for event in self:
            if isinstance(event, Answer):
                return event
        raise AssertionError("An answer ended without an end.")


__all__ = ["RunningAnswer", "Service", "stopping"]
