"""The metric modules against lmms-eval's own functions, on random and on tricky answers."""

import random
import string
from pathlib import Path

import numpy as np
import pytest

for library in ("evaluate", "lmms_eval", "rapidfuzz", "sklearn"):
    pytest.importorskip(library, reason=f"metrics need {library} (the `evaluation` extra)")

import evaluate
from lmms_eval.api.metrics import anls, exact_match_hf_evaluate
from lmms_eval.tasks.chartqa.utils import relaxed_correctness
from lmms_eval.tasks.textvqa.utils import textvqa_process_results

import transformers_fastvlm.evaluation
from transformers_fastvlm.evaluation import METRICS, load_metric

TRICKY = [
    "",
    "   ",
    "Twelve",
    "12",
    "12.0",
    "12%",
    "0.12",
    "%",
    "0",
    "-0",
    "1e3",
    "1,000",
    "the cat's a dog",
    "THE CATS A DOG",
    "isnt it",
    "two  words",
    "two words",
    "straße",
    "STRASSE",
    "日本語",
    "a\nb",
    "U.S.A.",
    "12-May, 2020",
]


def random_answers(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    alphabet = string.ascii_letters[:8] + " .,'%" + string.digits
    return ["".join(rng.choices(alphabet, k=rng.randint(0, 9))) for _ in range(count)] + TRICKY


def pairs(seed: int = 0, count: int = 400) -> list[tuple[str, str]]:
    """Answers beside others, half of them near ones: case, white space or a number changed a little."""
    rng = random.Random(seed)
    answers = random_answers(seed, count)
    others = [
        rng.choice([text, text.upper(), f" {text}", text + rng.choice("1.%a"), rng.choice(answers)])
        for text in answers
    ]
    return list(zip(answers, others))


def score(name: str, prediction: str | None, references, **options) -> float:
    return load_metric(name).compute(predictions=[prediction], references=[references], **options)[name]


@pytest.fixture(scope="module", autouse=True)
def fast_metrics():
    """`evaluate.load` copies the module each time."""
    metrics = {name: load_metric(name) for name in METRICS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "load_metric", metrics.__getitem__)
        yield


@pytest.mark.parametrize("options", [{}, {"ignore_case": True, "ignore_punctuation": True}])
def test_exact_match_is_lmms_evals(options):
    guesses, truths = ([text.strip() for text in column] for column in zip(*pairs()))
    found = load_metric("exact_match").compute(predictions=guesses, references=truths, **options)
    expected = np.mean(
        [exact_match_hf_evaluate([guess], [truth], **options)["exact_match"] for guess, truth in zip(guesses, truths)]
    )
    assert found["exact_match"] == pytest.approx(expected, abs=1e-12)
    assert 0 < expected < 1


def test_anls_is_lmms_evals():
    rng = random.Random(1)
    answers = random_answers(1, 100)
    cases = [(guess, [truth, *rng.choices(answers, k=rng.randint(0, 3))]) for guess, truth in pairs(1)]
    expected = [anls(references=truths, predictions=[guess])["anls"] for guess, truths in cases]
    guesses, truths = zip(*cases)
    metric = load_metric("anls")
    assert metric.compute(predictions=list(guesses), references=list(truths))["anls"] == pytest.approx(
        np.mean(expected), abs=1e-12
    )
    for (guess, accepted), one in list(zip(cases, expected))[-len(TRICKY) :]:
        assert score("anls", guess, accepted) == pytest.approx(one, abs=1e-12), (guess, accepted)
    assert 0 < np.mean(expected) < 1


def test_relaxed_accuracy_is_lmms_evals():
    rng = random.Random(2)
    numbers = [f"{rng.uniform(-200, 200):.{rng.randint(0, 2)}f}" for _ in range(300)]
    near = [f"{float(number) * rng.uniform(0.9, 1.1):.3f}" + rng.choice(["", "", "%"]) for number in numbers]
    cases = [(guess.strip(), truth.strip()) for guess, truth in [*pairs(2), *zip(near, numbers)]]
    expected = [relaxed_correctness(guess, truth) for guess, truth in cases]
    found = load_metric("relaxed_accuracy").compute(
        predictions=[guess for guess, _ in cases], references=[[truth] for _, truth in cases]
    )
    assert found["relaxed_accuracy"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert 0 < np.mean(expected) < 1


def test_vqa_accuracy_is_lmms_evals():
    rng = random.Random(3)
    cases = []
    for guess, truth in pairs(3):
        others = rng.choices(random_answers(3, 5), k=4)
        cases.append((guess, rng.sample([*[guess] * rng.randint(0, 6), *[truth] * 10, *others], k=10)))
    expected = [
        textvqa_process_results({"answers": list(answers), "question_id": 0}, [guess])["exact_match"]
        for guess, answers in cases
    ]
    guesses, answers = map(list, zip(*cases))
    found = load_metric("vqa_accuracy").compute(predictions=guesses, references=answers)
    assert found["vqa_accuracy"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert 0 < np.mean(expected) < 1


@pytest.mark.parametrize("name", METRICS)
def test_no_answer_is_a_wrong_one_and_none_at_all_an_error(name):
    references = ["cat", "dog"] if name == "exact_match" else [["cat"] * 10, ["dog"] * 10]
    metric = load_metric(name)
    for predictions in (["", "dog"], ["cat", None]):
        assert metric.compute(predictions=predictions, references=references)[name] == 0.5
    with pytest.raises(ValueError, match="no answers to score"):
        metric.compute(predictions=[], references=[])


@pytest.mark.parametrize("name", METRICS)
def test_evaluate_loads_the_file_itself(name):
    folder = Path(transformers_fastvlm.evaluation.__file__).parent / "metrics"
    metric = evaluate.load(str(folder / f"{name}.py"))
    metric.add_batch(predictions=["x"], references=["x" if name == "exact_match" else ["x"] * 4])
    assert metric.compute() == {name: 1.0}


def test_an_unknown_metric_is_named(monkeypatch):
    from transformers_fastvlm.evaluation import load_metric

    with pytest.raises(ValueError, match="Unknown metric 'accuracy'; known are exact_match, vqa_accuracy, anls"):
        load_metric("accuracy")
