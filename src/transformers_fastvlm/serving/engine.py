# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The queue of requests, and the thread that answers them together, in the order in which they came."""

import logging
import threading
from collections import deque
from typing import Any

from ..inference.joint_decoding import JointAnswer, JointDecoder

logger = logging.getLogger(__name__)


class Lane:
    """
    A model, or one adapter on it, and the answers that it is making.

    Args:
        model: as `load_model` gives it; with adapters, a `PeftModel`, which lanes share.
        adapter: its name; `None` is the model without.
    """

    def __init__(self, model: Any, adapter: str | None = None):
        self.model = model
        self.adapter = adapter
        self.decoder = JointDecoder(model)

    def activate(self) -> None:
        """Put this lane's adapter on the model, and no other."""
        if not hasattr(self.model, "peft_config"):
            return
        if self.adapter is None:
            self.model.base_model.disable_adapter_layers()
        else:
            self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(self.adapter)


class Engine:
    """
    Answers requests of all lanes, in a thread of its own, until it is closed.

    Args:
        batch_size: answers that are made at a time, at most.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._waiting: deque[tuple[Lane, JointAnswer]] = deque()
        self._busy: list[Lane] = []
        self._active: Lane | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="fastvlm-engine", daemon=True)
        self._thread.start()

    def submit(self, lane: Lane, answer: JointAnswer) -> None:
        """Have a request answered; what becomes of it, the answer emits."""
        with self._changed:
            if not self.is_alive:
                raise RuntimeError("The engine has stopped.")
            self._waiting.append((lane, answer))
            self._changed.notify()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return sum(len(lane.decoder.answers) for lane in list(self._busy))

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self._is_closed

    def close(self) -> None:
        """Cancel what is not finished, and wait for the thread."""
        with self._changed:
            self._is_closed = True
            for _, answer in self._waiting:
                answer.cancel()
            for lane in self._busy:
                for answer in lane.decoder.answers:
                    answer.cancel()
            self._changed.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._busy or self._is_closed)
                if self._is_closed and not (self._waiting or self._busy):
                    return
                joining = self._next()
            for lane in list(dict.fromkeys([*self._busy, *joining])):
                self._advance(lane, joining.get(lane, []))

    def _next(self) -> dict[Lane, list[JointAnswer]]:
        """Those who have waited longest, as many as there is room for, by lane."""
        room = self._batch_size - self.running
        joining: dict[Lane, list[JointAnswer]] = {}
        kept: deque[tuple[Lane, JointAnswer]] = deque()
        for lane, answer in self._waiting:
            if answer.ended_meanwhile():
                continue
            if room > 0:
                room -= 1
                joining.setdefault(lane, []).append(answer)
            else:
                kept.append((lane, answer))
        self._waiting = kept
        return joining

    def _advance(self, lane: Lane, joining: list[JointAnswer]) -> None:
        try:
            if self._active is not lane:
                lane.activate()
                self._active = lane
            lane.decoder.step()
            lane.decoder.add(joining)
        except Exception as error:  # a mistake of ours: those whom it hits are told, the server goes on
            logger.exception("Answers failed")
            for answer in [*lane.decoder.answers, *joining]:
                answer.fail(error)
            lane.decoder = JointDecoder(lane.model)
        with self._changed:
            busy = [each for each in self._busy if each is not lane]
            self._busy = [*busy, lane] if lane.decoder.answers else busy
