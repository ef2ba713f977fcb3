# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The metric modules as `compute_metrics` of a `Trainer`, as a fine-tuning script uses them."""

import json

import numpy as np
import pytest

for library in ("evaluate", "accelerate", "datasets", "lmms_eval", "rapidfuzz", "sklearn"):
    pytest.importorskip(library, reason=f"metrics in a Trainer need {library} (the extras `train` and `evaluation`)")

from evaluating import BUNDLED
from PIL import Image
from transformers import AutoProcessor, Trainer, TrainingArguments

from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.evaluation import load_metric
from transformers_fastvlm.training import FastVLMDataCollator, RowFormat

IGNORED = -100


def rows():
    """The six images beside the bundled checkpoint, as a data set for fine-tuning has them."""
    for task in json.loads((BUNDLED / "images" / "truth.json").read_text()):
        content = [{"type": "image"}, {"type": "text", "text": task["question"]}]
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": task["answer"]}]
        yield {"images": [Image.open(BUNDLED / "images" / task["image"])], "messages": messages}


def test_answers_are_scored_while_training(tmp_path):
    processor = AutoProcessor.from_pretrained(BUNDLED)
    metrics = {"exact_match": load_metric("exact_match"), "anls": load_metric("anls")}
    seen = {}

    def compute_metrics(prediction):
        # A token is predicted from the position before it.
        guesses, labels = prediction.predictions[:, :-1], prediction.label_ids[:, 1:]
        texts = [
            processor.batch_decode([ids[kept != IGNORED] for ids, kept in zip(each, labels)], skip_special_tokens=True)
            for each in (guesses, labels)
        ]
        seen["guesses"], seen["answers"] = texts
        exact = metrics["exact_match"].compute(predictions=texts[0], references=texts[1])
        return exact | metrics["anls"].compute(predictions=texts[0], references=[[text] for text in texts[1]])

    trainer = Trainer(
        AutoModelForVision2Seq.from_pretrained(BUNDLED),
        TrainingArguments(
            str(tmp_path), per_device_eval_batch_size=4, remove_unused_columns=False, report_to="none", use_cpu=True
        ),
        FastVLMDataCollator(processor, RowFormat()),
        eval_dataset=list(rows()),
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )
    scores = trainer.evaluate()
    right = np.mean([guess.strip() == answer.strip() for guess, answer in zip(seen["guesses"], seen["answers"])])
    assert scores["eval_exact_match"] == right == 5 / 6
    assert 5 / 6 <= scores["eval_anls"] < 1
    assert seen["answers"] == [row["messages"][1]["content"] for row in rows()]
