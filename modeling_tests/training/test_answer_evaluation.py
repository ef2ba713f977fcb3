"""Answers to evaluation rows: shares of processes, the metric in a trainer's evaluation, the table, the files."""

import pytest

from chat_rows import make_processor, picture
from tiny_models import tiny_model
from transformers_fastvlm.training import AnswerEvaluation, RowAnswer, RowFormat, answer_evaluation
from transformers_fastvlm.training.answer_evaluation import answers_table, read_answers, write_answers

pytest.importorskip("accelerate.utils", reason="processes share the rows through accelerate (the `train` extra)")
ROWS = [{"question": f"What is {index}?", "answer": "A cat", "image": picture(40 + index, 30)} for index in range(5)]


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def model(processor):
    model = tiny_model(vocab_size=len(processor.tokenizer), max_position_embeddings=512)
    model.config.image_token_id = processor.image_token_id
    return model


def evaluation(processor, **options) -> AnswerEvaluation:
    given = {"batch_size": 2, "max_new_tokens": 2} | options
    return AnswerEvaluation("length", lambda answers: len(answers), ROWS, processor, RowFormat(), **given)


def test_all_rows_or_the_first_ones_are_answered_in_order(processor, model):
    every = evaluation(processor).answers(model)
    assert [each.question for each in every] == [row["question"] for row in ROWS]
    assert evaluation(processor, limit=3).measure(model) == (3, every[:3])
    assert evaluation(processor).answers(model, limit=9) == every


@pytest.mark.parametrize("count", [2, 3, 4])
def test_processes_together_answer_what_one_does(count, processor, model, monkeypatch):
    """Each goes through the model as often as the others, which weights that are shared out need."""
    expected = evaluation(processor).answers(model)
    shares, batches = [], []
    answer = answer_evaluation.answer_questions

    def counted(*given):
        batches[-1] += 1
        return answer(*given)

    monkeypatch.setattr(answer_evaluation, "answer_questions", counted)
    monkeypatch.setattr("accelerate.utils.gather_object", lambda found: (shares.append(found), found)[1])
    for index in range(count):
        state = type("State", (), {"process_index": index, "num_processes": count})
        monkeypatch.setattr(answer_evaluation, "process_state", lambda state=state: state)
        batches.append(0)
        evaluation(processor).answers(model)
    assert len(set(batches)) == 1
    together = dict(pair for share in shares for pair in share)
    assert [together[index] for index in range(5)] == expected


def test_a_table_is_short_and_takes_nothing_for_markup():
    answers = [RowAnswer("line 1", "Q?\n\nQ" * 30, ("[bold]x[/bold]",), "[red]a")] * 9
    table = answers_table(answers, "step 2")
    assert table.row_count == 5
    assert table.title == "step 2"
    from rich.console import Console

    console = Console(width=400)
    with console.capture() as captured:
        console.print(table)
    assert "[bold]x[/bold]" in captured.get()
    assert "…" in captured.get()


def test_files_of_answers_are_read_as_written(tmp_path):
    answers = [RowAnswer("line 1", "Wie heißt es?", ("a", "b"), "c\nd\u2028e"), RowAnswer("row 2", "", ("",), "")]
    write_answers(answers, tmp_path / "answers.jsonl")
    assert read_answers(tmp_path / "answers.jsonl") == answers
    assert (tmp_path / "answers.jsonl").read_text().count("\n") == 2
