# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the server counts and measures, as Prometheus reads it."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..inference.answerer import Answer

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)
_RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """
    Args:
        waiting, running: how many requests wait and how many answers are decoded, asked as Prometheus reads.
    """

    def __init__(self, waiting: Callable[[], int], running: Callable[[], int]):
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "fastvlm_requests", "Requests, by path and status.", ("path", "status"), registry=registry
        )
        self._prompt_tokens = Counter(
            "fastvlm_prompt_tokens", "Tokens of prompts, visual ones too.", registry=registry
        )
        self._tokens = Counter("fastvlm_generated_tokens", "Tokens of answers.", registry=registry)
        self._answers = Counter("fastvlm_answers", "Answers, by why they ended.", ("reason",), registry=registry)
        self._first_token = Histogram(
            "fastvlm_time_to_first_token_seconds",
            "From the prepared request to its first token, waiting included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._rate = Histogram(
            "fastvlm_tokens_per_second", "Of an answer, after its first token.", buckets=_RATES, registry=registry
        )
        self._seconds = Histogram(
            "fastvlm_answer_seconds", "From the prepared request to its end.", buckets=_SECONDS, registry=registry
        )
        Gauge("fastvlm_requests_waiting", "Requests in the queue.", registry=registry).set_function(waiting)
        Gauge("fastvlm_requests_running", "Answers being decoded.", registry=registry).set_function(running)

    def count_request(self, path: str, status: int) -> None:
        self._requests.labels(path, str(status)).inc()

    def count_answer(self, answer: Answer) -> None:
        self._answers.labels(answer.finish_reason).inc()
        self._prompt_tokens.inc(answer.prompt_tokens)
        self._tokens.inc(answer.tokens)
        self._seconds.observe(answer.seconds)
        if answer.time_to_first_token is not None:
            self._first_token.observe(answer.time_to_first_token)
        if answer.tokens_per_second is not None:
            self._rate.observe(answer.tokens_per_second)

    def count_failure(self, error: BaseException) -> None:
        self._answers.labels("timeout" if isinstance(error, TimeoutError) else "error").inc()

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
