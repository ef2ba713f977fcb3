# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""
Several answers at a time: prompts prefilled as a batch, tokens decoded together, others joining between two tokens.

transformers' continuous batching takes prompts without images only. Scores, stops and draws are those of `generate`.
"""

import copy
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, LogitsProcessorList

from ..outputs_fastvlm import CACHE_NAME, cache_argument
from ..prompt_checks import context_length, raise_on_long_prompt
from .answer_options import AnswerOptions
from .answer_text import AnswerText
from .answerer import Answer, Answerer, FinishReason, Message
from .model_loading import base_of

Event = str | Answer | BaseException


class JointAnswer:
    """
    An answer that is made among others.

    Args:
        answerer: whose model makes it.
        messages: of a conversation, as for `prepare_inputs`.
        options: how it is answered.
        emit: is given its text, piece by piece, and at last the whole [`Answer`], or the exception that ended it, by
            the thread that decodes.
        seconds: what it may take, waiting included; later it ends with a `TimeoutError`.

    Raises:
        ValueError: if the conversation cannot be answered, no answer be held to the schema, or the prompt is longer
            than the decoder's context.
        MissingLibraryError: if there is a schema, and the library for it is not installed.
    """

    def __init__(
        self,
        answerer: Answerer,
        messages: Sequence[Message],
        options: AnswerOptions,
        emit: Callable[[Event], None],
        seconds: float | None = None,
    ):
        self._start = time.perf_counter()
        text_config = base_of(answerer.model).config.text_config
        self.options = options
        self._ends = answerer.end_ids
        self._held_to = answerer.logits_processors(options)
        self.inputs = answerer.prepare(messages, options)
        self.prompt_tokens = self.inputs["input_ids"].shape[1]
        raise_on_long_prompt(text_config, self.prompt_tokens)
        context = context_length(text_config)
        room = options.max_new_tokens if context is None else context - self.prompt_tokens
        self._most_tokens = min(options.max_new_tokens, room)
        self._text = AnswerText(answerer.processor.tokenizer, options.stop)
        self._emit = emit
        self._deadline = None if seconds is None else self._start + seconds
        self._seconds = seconds
        self._first: float | None = None
        self._cancelled = threading.Event()
        self.is_over = False
        self._processors: Any = None
        self._generator: torch.Generator | None = None
        self._settings: Any = None

    def cancel(self) -> None:
        """Stop at the next token; may be called from any thread, and does not wait."""
        self._cancelled.set()

    def fail(self, error: BaseException) -> None:
        """End with an exception."""
        if not self.is_over:
            self._emit(error)
            self._forget()

    def _forget(self) -> None:
        """Leave nothing large behind: whom it tells may refer to it, and such circles are freed rarely."""
        self.is_over = True
        self.inputs, self._processors, self._held_to = {}, None, LogitsProcessorList()
        self._emit = _told_all

    def ended_meanwhile(self) -> bool:
        """Whether it is over; ends it if it was cancelled, or its time is."""
        if not self.is_over and self._cancelled.is_set():
            self._finish("cancelled")
        if not self.is_over and self._deadline is not None and time.perf_counter() > self._deadline:
            self.fail(TimeoutError(f"The answer took longer than {self._seconds:g} seconds."))
        return self.is_over

    def prepare_to_draw(self, model: Any) -> None:
        """Set up what `generate` does with scores, on the model's device."""
        self._settings = copy.deepcopy(model.generation_config)
        self._settings.update(**self.options.generation_arguments())
        if self._settings.do_sample:
            self._generator = torch.Generator(model.device)
            if self.options.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(self.options.seed)
        self._settings._eos_token_tensor = torch.tensor(self._ends, device=model.device) if self._ends else None
        self._processors = model._get_logits_processor(
            generation_config=self._settings,
            input_ids_seq_length=self.prompt_tokens,
            encoder_input_ids=self.inputs["input_ids"].to(model.device),
            prefix_allowed_tokens_fn=None,
            logits_processor=self._held_to,
            device=model.device,
            model_kwargs={},
        )

    def take(self, scores: torch.Tensor) -> int:
        """The next token, out of the decoder's scores, `(vocab,)`; what is certain of the text goes out."""
        scores = scores.float()[None]  # (1, vocab)
        if self._processors:
            ids = self.inputs["input_ids"].to(scores.device)
            made = torch.tensor([self._text.token_ids], dtype=ids.dtype, device=scores.device)
            scores = self._processors(torch.cat([ids, made], 1), scores)
        if self._settings.do_sample:
            token = int(torch.multinomial(scores.softmax(-1), 1, generator=self._generator))
        else:
            token = int(scores.argmax())
        if self._first is None:
            self._first = time.perf_counter()
        if piece := self._text.push(token):
            self._emit(piece)
        if self._text.is_stopped or token in self._ends:
            self._finish("stop")
        elif len(self._text.token_ids) >= self._most_tokens:
            self._finish("length")
        return token

    def _finish(self, reason: FinishReason) -> None:
        if reason != "cancelled" and (piece := self._text.finish()):
            self._emit(piece)
        answer = Answer(
            text=self._text.text,
            finish_reason="stop" if self._text.is_stopped else reason,
            prompt_tokens=self.prompt_tokens,
            tokens=len(self._text.token_ids),
            time_to_first_token=None if self._first is None else self._first - self._start,
            seconds=time.perf_counter() - self._start,
        )
        self._emit(answer)
        self._forget()


def _told_all(event: Event) -> None:
    raise AssertionError("An answer that is over has nothing to tell.")


class JointDecoder:
    """
    Decodes answers of one model together. For one thread.

    Args:
        model: as `load_model` gives it.
    """

    def __init__(self, model: Any):
        self._model = base_of(model)
        self.answers: list[JointAnswer] = []
        self._cache: Any = None
        self._mask = torch.empty(0, 0)  # (answers, positions), int64
        self._last: list[int] = []  # the newest token of each

    @torch.no_grad()
    def add(self, answers: Sequence[JointAnswer]) -> None:
        """
        Encode the images and prefill the prompts of more answers, as a batch; each gets its first token.

        If that fails, each is tried alone, so that one does not fail the others.
        """
        answers = [answer for answer in answers if not answer.ended_meanwhile()]
        if not answers:
            return
        try:
            for answer in answers:
                answer.prepare_to_draw(self._model)
            logits, cache, mask = self._prefill(answers)
        except Exception as error:
            if len(answers) == 1:
                answers[0].fail(error)
            else:
                for answer in answers:
                    self.add([answer])
            return
        for answer in answers:
            answer.inputs.pop("pixel_values", None)
        last = [answer.take(scores) for answer, scores in zip(answers, logits)]
        self._join(answers, cache, mask, last)
        self._let_go()

    @torch.no_grad()
    def step(self) -> None:
        """One more token of every answer. If that fails, all that there are end with the exception."""
        for answer in self.answers:
            answer.ended_meanwhile()
        self._let_go()
        if not self.answers:
            return
        try:
            self._mask = pad(self._mask, (0, 1), value=1)
            outputs = self._model(
                input_ids=torch.tensor(self._last, device=self._mask.device)[:, None],
                attention_mask=self._mask,
                position_ids=self._mask.sum(1, keepdim=True) - 1,
                use_cache=True,
                return_dict=True,
                **cache_argument(self._cache),
            )
            self._cache = outputs[CACHE_NAME]
            self._last = [answer.take(scores) for answer, scores in zip(self.answers, outputs.logits[:, -1])]
        except Exception as error:
            for answer in self.answers:
                answer.fail(error)
        self._let_go()

    def _prefill(self, answers: Sequence[JointAnswer]) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Scores after each prompt, `(answers, vocab)`, their cache and their mask."""
        device = self._model.device
        longest = max(answer.prompt_tokens for answer in answers)
        filler = self._model.generation_config.pad_token_id or 0
        ids = [pad(each.inputs["input_ids"], (longest - each.prompt_tokens, 0), value=filler) for each in answers]
        masks = [pad(each.inputs["attention_mask"], (longest - each.prompt_tokens, 0)) for each in answers]
        pixels = [each.inputs["pixel_values"] for each in answers if each.inputs.get("pixel_values") is not None]
        mask = torch.cat(masks).to(device)
        outputs = self._model(
            input_ids=torch.cat(ids).to(device),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            pixel_values=torch.cat(pixels).to(device) if pixels else None,
            logits_to_keep=1,
            use_cache=True,
            return_dict=True,
            **cache_argument(DynamicCache()),
        )
        return outputs.logits[:, -1], outputs[CACHE_NAME], mask

    def _join(self, answers: Sequence[JointAnswer], cache: Any, mask: torch.Tensor, last: list[int]) -> None:
        if self.answers:
            width = max(mask.shape[1], self._mask.shape[1])
            short, shorter = width - self._mask.shape[1], width - mask.shape[1]
            for ours, theirs in zip(self._cache.layers, cache.layers):
                if not ours.is_initialized:
                    continue
                for name in ("keys", "values"):  # (answers, heads, positions, width)
                    old, new = getattr(ours, name), getattr(theirs, name)
                    setattr(ours, name, torch.cat([pad(old, (0, 0, short, 0)), pad(new, (0, 0, shorter, 0))]))
            mask = torch.cat([pad(self._mask, (short, 0)), pad(mask, (shorter, 0))])
            cache = self._cache
        self._cache, self._mask = cache, mask
        self.answers += answers
        self._last += last

    def _let_go(self) -> None:
        """Forget the answers that are over, and the positions that only they had."""
        kept = [index for index, answer in enumerate(self.answers) if not answer.is_over]
        if len(kept) == len(self.answers):
            return
        self.answers = [self.answers[index] for index in kept]
        self._last = [self._last[index] for index in kept]
        if not kept:
            self._cache = None
            return
        self._mask = self._mask[kept]
        first = int(self._mask.any(0).int().argmax())
        self._mask = self._mask[:, first:]
        for layer in self._cache.layers:
            if layer.is_initialized:
                layer.keys, layer.values = layer.keys[kept, :, first:], layer.values[kept, :, first:]


__all__ = ["JointAnswer", "JointDecoder"]
