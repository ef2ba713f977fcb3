# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM as a model of lmms-eval."""

import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from PIL import Image
from tqdm import tqdm

from ..inference import answering
from ..inference.answering import to_messages
from ..inference.model_loading import load
from ..inference.model_options import ModelOptions
from .answers import AnswerStore, fingerprint, is_answer, is_number, key_of
from .images import any_unreadable
from .task_options import cut_at, generation_options

# Prompts timed for the time to first token, one by one, after the first of them to warm up.
_TIMED_PROMPTS = 8
# Of a task whose answer is the number of the image most similar to the first one.
NEAREST_IMAGE = "nearest_image"


class FastVLM(lmms):
    """
    Any FastVLM checkpoint: `lmms_eval --model fastvlm --model_args pretrained=apple/FastVLM-0.5B,dtype=bfloat16`.

    Greedy decoding, unless a task asks for sampling. A task with `nearest_image: true` among its `generation_kwargs`
    is answered with the number of the image, of those after the first, that is most similar to the first.

    Args:
        pretrained, adapter, quantization, dtype, resolution, static_cache, compiled: as [`ModelOptions`] has them.
        load_in_4bit: the same as `quantization="nf4"`.
        batch_size: prompts per call.
        device: by default the process's GPU, or the CPU.
        answers: a JSONL file to keep answers in and take them from, so that a run that was interrupted goes on.

    Raises:
        ValueError: if an option is not known.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        device: str | None = None,
        load_in_4bit: bool = False,
        answers: str | None = None,
        **options: Any,
    ):
        super().__init__()
        if load_in_4bit:
            options["quantization"] = "nf4"
        try:
            self.options = ModelOptions(str(pretrained), **options)
        except TypeError as error:
            raise ValueError(f"Unknown model arguments in {sorted(options)}: {error}") from error
        self.batch_size = int(batch_size)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.device = torch.device(device or self.accelerator.device)
        self.model, self.processor = load(self.options, self.device)
        self._store = AnswerStore(Path(answers) if answers else None, self._rank)
        self._identity = key_of(
            fingerprint(self.options.pretrained),
            fingerprint(self.options.adapter) if self.options.adapter else None,
            {name: value for name, value in vars(self.options).items() if name not in ("pretrained", "adapter")},
            self.batch_size,
            self.device.type,
            [metadata.version(name) for name in ("torch", "transformers", "transformers-fastvlm")],
        )
        self.resolution: int = self.processor.image_processor.get_resolution()
        self.unreadable: set[tuple[str, int]] = set()

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers in the order of the requests, whose `args` are text, options, and where to find the images."""
        if self.ttft_ms is None:
            self._measure_ttft(requests)
        return self._answer(requests, "Answers", self._generate, "")

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """[`score_continuations`] in the order of the requests, as `text`; an infinite loss for unreadable images."""
        pairs = self._answer(requests, "Log-likelihoods", self._score, [float("inf"), False])
        # Plain pairs become text in lmms-eval 0.7, `str((1.2, True))`, which no task can read.
        return [GenerationResult((loss, is_greedy)) for loss, is_greedy in pairs]  # type: ignore[arg-type]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """
        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("FastVLM answers tasks of one round only.")

    @property
    def ttft_ms(self) -> float | None:
        """Mean time from decoded image and text to the first token, of some prompts one by one; `None` before any."""
        kept = self._store.get(key_of(self._identity, "ttft_ms"))
        return kept if is_number(kept) else None

    def _answer(self, requests: list[Instance], title: str, ask: Callable, wrong: Any) -> list[Any]:
        """What the store has, and what `ask` says to batches of the rest; `wrong` where an image is unreadable."""
        keys = [self._key(request) for request in requests]
        as_words = isinstance(wrong, str)
        missing = {
            key: request for key, request in zip(keys, requests) if not is_answer(self._store.get(key), as_words)
        }
        progress = tqdm(total=len(missing), desc=title, disable=self._rank != 0)
        for batch in self._batches(missing):
            images = {key: self._images(request) for key, request in batch.items()}
            answers = {key: {"answer": wrong, "unreadable": True} for key in batch if any_unreadable(images[key])}
            readable = [key for key in batch if key not in answers]
            if readable:
                texts = ask([batch[key] for key in readable], [images[key] for key in readable])
                answers |= {key: {"answer": text, "unreadable": False} for key, text in zip(readable, texts)}
            self._store.add(answers)
            progress.update(len(batch))
        progress.close()
        records = [self._store[key] for key in keys]
        for request, record in zip(requests, records):
            if record["unreadable"]:
                self.unreadable.add((request.task_name, request.doc_id))
        return [record["answer"] for record in records]

    def _key(self, request: Instance) -> str:
        text, options, _, document, task, split = request.args
        if callable(options):
            options = options(self.task_dict[task][split][document])
        # Questions may stay the same where images are made anew; `datasets` keeps each version in a folder of its own.
        data = self.task_dict[task][split]
        folders = sorted({str(Path(file["filename"]).parent) for file in data.cache_files})
        place = [request.request_type, task, split, document, request.idx]
        return key_of(self._identity, place, text, options, folders, data.info.dataset_size)

    def _batches(self, requests: dict[str, Instance]) -> Iterator[dict[str, Instance]]:
        """Groups of up to `batch_size` with the same options, which one call of `generate` can take."""
        groups: dict[str, dict[str, Instance]] = {}
        for key, request in requests.items():
            options = request.args[1] if request.request_type == "generate_until" else None
            groups.setdefault(key_of(options), {})[key] = request
        for group in groups.values():
            keys = list(group)
            for start in range(0, len(keys), self.batch_size):
                yield {key: group[key] for key in keys[start : start + self.batch_size]}

    def _images(self, request: Instance) -> list[Image.Image]:
        _, _, visuals_of, document, task, split = request.args
        visuals = visuals_of(self.task_dict[task][split][document]) if visuals_of else None
        # A data set's column of image lists comes as one visual.
        return [image for visual in visuals or [] for image in (visual if isinstance(visual, list) else [visual])]

    def _generate(self, requests: list[Instance], images: list[list[Image.Image]]) -> list[str]:
        options = requests[0].args[1]
        if options.get(NEAREST_IMAGE):
            return [str(answering.nearest_image(self.model, self.processor, group)) for group in images]
        conversations = [to_messages(request.args[0], group) for request, group in zip(requests, images)]
        answers = answering.generate_answers(self.model, self.processor, conversations, **generation_options(options))
        return [cut_at(answer, options.get("until") or ()).strip() for answer in answers]

    def _score(self, requests: list[Instance], images: list[list[Image.Image]]) -> list[tuple[float, bool]]:
        conversations = [to_messages(request.args[0], group) for request, group in zip(requests, images)]
        texts = [self._continuation(request) for request in requests]
        return answering.score_continuations(self.model, self.processor, conversations, texts)

    def _continuation(self, request: Instance) -> str:
        _, target, _, document, task, split = request.args
        return (target(self.task_dict[task][split][document]) if callable(target) else target).strip()

    def _measure_ttft(self, requests: list[Instance]) -> None:
        prompts = [
            to_messages(request.args[0], images)
            for request in requests[:_TIMED_PROMPTS]
            if not request.args[1].get(NEAREST_IMAGE) and not any_unreadable(images := self._images(request))
        ]
        seconds = []
        for prompt in [*prompts[:1], *prompts]:
            start = time.perf_counter()
            answering.generate_answers(self.model, self.processor, [prompt], max_new_tokens=1, do_sample=False)
            seconds.append(time.perf_counter() - start)
        if warm := seconds[1:]:
            self._store.add({key_of(self._identity, "ttft_ms"): 1e3 * mean(warm)})


__all__ = ["NEAREST_IMAGE", "FastVLM"]
