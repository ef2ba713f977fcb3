"""Where chat data sets come from, and which rows stay."""

import json

import pytest

from chat_rows import make_processor, picture, png, turns
from transformers_fastvlm.training import FastVLMDataCollator, RowError, RowFormat, load_chat_dataset, prepare_dataset

datasets = pytest.importorskip("datasets", reason="data sets are read with `datasets` (the `train` extra)")
pytest.importorskip("accelerate.utils", reason="processes share the checking through accelerate (the `train` extra)")

FAULTS = {1: "no assistant turn", 3: "Image 0", 4: "2 images but 1"}


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def in_parts(*texts: str) -> list[dict]:
    """Messages whose contents all are lists of parts: Arrow columns do not mix them with text."""
    messages = turns(*texts)
    for message in messages[1:]:
        message["content"] = [{"type": "text", "text": message["content"]}]
    return messages


def good_row(index: int = 0, answer: str = "A cat.") -> dict:
    return {"messages": in_parts(f"What is {index}?", answer), "images": [{"bytes": png(picture()), "path": None}]}


@pytest.fixture
def rows() -> list[dict]:
    rows = [good_row(index) for index in range(6)]
    rows[1]["messages"] = rows[1]["messages"][:1]
    rows[3]["images"] = [{"bytes": png(picture())[:400], "path": None}]
    rows[4]["images"] = rows[4]["images"] * 2
    return rows


def as_dataset(rows: list[dict]):
    return datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))


def test_good_rows_stay_and_train(processor):
    dataset, report = prepare_dataset(as_dataset([good_row(index) for index in range(3)]), processor)
    assert len(dataset) == report.checked == 3
    assert str(report) == "3 rows, 0 left out"
    assert FastVLMDataCollator(processor)([dataset[0], dataset[2]])["pixel_values"].shape == (2, 3, 128, 128)


@pytest.mark.parametrize("streaming", [False, True])
def test_faulty_rows_are_left_out_and_counted(streaming, rows, processor):
    dataset = as_dataset(rows)
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    kept, report = prepare_dataset(dataset, processor, faulty_rows="skip")
    questions = [row["messages"][0]["content"][1]["text"] for row in kept]
    assert questions == ["What is 0?", "What is 2?", "What is 5?"]
    assert report.left_out == {"assistant": [1], "image": [3], "placeholders": [4]}
    assert "6 rows, 3 left out, 1 with no assistant turn (rows 1)" in str(report)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_or_the_first_stops_with_its_number(fault, streaming, rows, processor):
    for other in FAULTS:
        if other != fault:
            rows[other] = good_row(other)
    dataset = as_dataset(rows)
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    with pytest.raises(RowError, match=f"Row {fault}: .*{FAULTS[fault]}"):
        list(prepare_dataset(dataset, processor)[0])


def test_long_rows_are_shortened_or_dropped(processor):
    dataset = as_dataset([good_row(), good_row(answer="A cat. " * 20)])
    kept, report = prepare_dataset(dataset, processor, RowFormat(max_length=120))
    assert len(kept) == 2
    assert "1 shortened (rows 1)" in str(report)
    kept, report = prepare_dataset(dataset, processor, RowFormat(max_length=120, too_long="drop"), faulty_rows="skip")
    assert len(kept) == 1
    assert report.left_out == {"length": [1]}


@pytest.mark.parametrize("streaming", [False, True])
def test_missing_columns_are_named_with_those_there(streaming, processor):
    dataset = as_dataset([good_row()]).rename_column("messages", "dialogue")
    dataset = dataset.to_iterable_dataset() if streaming else dataset
    with pytest.raises(KeyError, match="no column 'talk'; it has 'dialogue', 'images'"):
        prepare_dataset(dataset, processor, RowFormat("talk"))
    prepare_dataset(dataset, processor, RowFormat("dialogue"))


def test_text_alone(processor):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    dataset = datasets.Dataset.from_list([{"messages": messages, "source": "x"}])
    kept, _ = prepare_dataset(dataset, processor, RowFormat())
    assert kept.column_names == ["messages"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "saved", "folder"])
def test_sources(kind, streaming, tmp_path, processor):
    (tmp_path / "a.png").write_bytes(png(picture()))
    messages = in_parts("What is it?", "A cat.")
    if kind == "jsonl":
        source = tmp_path / "train.jsonl"
        source.write_text(json.dumps({"messages": messages, "images": ["a.png"]}) + "\n")
    elif kind == "saved":
        source = tmp_path / "saved"
        as_dataset([good_row()]).save_to_disk(source)
    else:
        source = tmp_path
        row = {"file_name": "a.png", "messages": messages}
        (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    dataset = load_chat_dataset(source, streaming=streaming)
    column = "image" if kind == "folder" else "images"
    kept, _ = prepare_dataset(dataset, processor, RowFormat(images_column=column))
    batch = FastVLMDataCollator(processor, RowFormat(images_column=column))(list(kept))
    assert batch["pixel_values"].shape == (1, 3, 128, 128)


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_file_names_images_relative_to_itself_or_to_a_folder(kind, tmp_path, processor):
    (tmp_path / "a.png").write_bytes(png(picture()))
    row = {"question": "What is it?", "answer": "A cat.", "photo": "a.png"}
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    row_format = RowFormat(images_column="photo")
    lines = {"jsonl": json.dumps(row), "json": json.dumps([row]), "csv": "question,answer,photo\nWhat?,A cat.,a.png\n"}
    for place in (tmp_path, folder):
        (place / f"train.{kind}").write_text(lines[kind])
    prepare_dataset(load_chat_dataset(tmp_path / f"train.{kind}"), processor, row_format)
    with pytest.raises(RowError, match="no image file"):
        prepare_dataset(load_chat_dataset(folder / f"train.{kind}"), processor, row_format)
    prepare_dataset(load_chat_dataset(folder / f"train.{kind}", image_root=tmp_path), processor, row_format)
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere of images"):
        load_chat_dataset(folder / f"train.{kind}", image_root=tmp_path / "nowhere")


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*train\.jsonl"):
        load_chat_dataset(tmp_path / "train.jsonl")
