"""Rows keep their place in the user's source, and what is no row is told by its line."""

import json
import multiprocessing

import pytest

from chat_rows import make_processor, picture, png, turns
from transformers_fastvlm.training import FastVLMDataCollator, RowError, RowFormat, load_chat_dataset, prepare_dataset

datasets = pytest.importorskip("datasets", reason="data sets are read with `datasets` (the `train` extra)")
pytest.importorskip("accelerate.utils", reason="processes share the checking through accelerate (the `train` extra)")
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

GARBAGE = [b"nonsense", b"[1, 2]", b"\xff\xfe\x00", b'{"messages": [', b"null", b"[" * 100_000]


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def row(index: int) -> dict:
    return {"messages": turns(f"What is {index}?", "A cat."), "images": ["a.png"]}


def write_lines(folder, *lines: dict | bytes):
    """A line's number is its index in `lines`, plus 1."""
    (folder / "a.png").write_bytes(png(picture()))
    path = folder / "train.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def question(row: dict) -> str:
    return row["messages"][0]["content"][1]["text"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_line_that_is_no_row_is_told_by_its_number(garbage, streaming, tmp_path, processor):
    dataset = load_chat_dataset(write_lines(tmp_path, row(1), b"", b"  ", garbage, row(5)), streaming=streaming)
    with pytest.raises(RowError, match="Line 4: It is no JSON") as error:
        list(prepare_dataset(dataset, processor)[0])
    assert error.value.reason == "json"


@pytest.mark.parametrize("streaming", [False, True])
def test_or_left_out_and_counted(streaming, tmp_path, processor):
    faulty = {"messages": turns("What?"), "images": ["a.png"]}
    path = write_lines(tmp_path, GARBAGE[0], b"", row(3), *GARBAGE[1:], faulty, row(10))
    kept, report = prepare_dataset(load_chat_dataset(path, streaming=streaming), processor, faulty_rows="skip")
    assert list(map(question, kept)) == ["What is 3?", "What is 10?"]
    assert report.left_out == {"json": [1, 4, 5, 6, 7, 8], "assistant": [9]}
    assert "9 rows, 7 left out, 6 with no JSON object (lines 1, 4, 5, 6, 7, …)" in str(report)
    batch = FastVLMDataCollator(processor)(list(kept))
    assert batch["pixel_values"].shape == (2, 3, 128, 128)


@pytest.mark.parametrize("streaming", [False, True])
def test_lines_need_not_be_alike(streaming, tmp_path, processor):
    plain = {"id": 1, "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    path = write_lines(tmp_path, plain, {**row(2), "id": "two"}, {**plain, "images": None, "more": {"x": []}})
    kept, report = prepare_dataset(load_chat_dataset(path, streaming=streaming), processor)
    assert len(list(kept)) == report.checked == 3
    assert FastVLMDataCollator(processor)(list(kept))["pixel_values"].shape == (1, 3, 128, 128)


def test_lines_of_other_systems_are_read(tmp_path, processor):
    path = write_lines(tmp_path, b"\xef\xbb\xbf" + json.dumps(row(1)).encode() + b"\r", row(2))
    assert len(prepare_dataset(load_chat_dataset(path), processor)[0]) == 2


@pytest.mark.parametrize("order", ["split", "shuffled", "streamed", "streamed in shards"])
def test_the_place_outlives_what_is_done_with_the_rows(order, tmp_path, processor):
    lines = [row(index + 1) for index in range(30)]
    lines[6]["messages"] = lines[6]["messages"][:1]
    path = write_lines(tmp_path, *lines)
    dataset = load_chat_dataset(path, streaming=order.startswith("streamed"))
    if order == "split":
        parts = dataset.train_test_split(0.3, seed=0)
        dataset = parts["train" if 7 in parts["train"]["source_line"] else "test"]
    elif order == "shuffled":
        dataset = dataset.shuffle(seed=3).select(range(29, -1, -1))
    elif order == "streamed":
        dataset = dataset.shuffle(seed=0, buffer_size=20)
    else:
        dataset = split_dataset_by_node(dataset, rank=0, world_size=2)
    with pytest.raises(RowError, match="^Line 7: "):
        list(prepare_dataset(dataset, processor)[0])


def test_an_image_that_vanishes_later_is_told_by_its_line(tmp_path, processor):
    kept, _ = prepare_dataset(load_chat_dataset(write_lines(tmp_path, b"", row(2), row(3))), processor)
    (tmp_path / "a.png").unlink()
    with pytest.raises(RowError, match="^Line 3: ") as error:
        FastVLMDataCollator(processor)([kept[1]])
    assert error.value.reason == "image"


def as_dataset(count: int, faulty: int):
    rows = [{"messages": turns(f"What is {index}?", "A cat.")[1:]} for index in range(count)]
    rows[faulty]["messages"] = [{"role": "user", "content": "What?"}]
    return datasets.Dataset.from_list(rows)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_a_saved_data_set_are_counted_before_they_are_shuffled(streaming, tmp_path, processor):
    as_dataset(20, faulty=5).save_to_disk(tmp_path / "saved")
    dataset = load_chat_dataset(tmp_path / "saved", streaming=streaming).shuffle(seed=1)
    _, report = kept = prepare_dataset(dataset, processor, RowFormat(), faulty_rows="skip")
    assert len(list(kept[0])) == 19
    assert report.left_out == {"assistant": [5]}


def test_so_they_are_when_saved_and_loaded_again(tmp_path, processor):
    as_dataset(9, faulty=5).save_to_disk(tmp_path / "saved")
    load_chat_dataset(tmp_path / "saved").select(range(4, 9)).save_to_disk(tmp_path / "again")
    _, report = prepare_dataset(load_chat_dataset(tmp_path / "again"), processor, RowFormat(), faulty_rows="skip")
    assert report.left_out == {"assistant": [5]}


def test_rows_of_a_json_array_are_counted_from_nought(tmp_path, processor):
    rows = [row(index) for index in range(4)]
    rows[2]["messages"] = rows[2]["messages"][:1]
    write_lines(tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(rows))
    with pytest.raises(RowError, match="^Row 2: "):
        prepare_dataset(load_chat_dataset(tmp_path / "train.json"), processor)


def test_rows_of_a_stream_of_files_name_the_file(tmp_path, processor):
    for name in "ab":
        as_dataset(6, faulty=3 if name == "b" else 0).to_parquet(tmp_path / f"train-{name}.parquet")
    dataset = load_chat_dataset(tmp_path, streaming=True)
    kept, report = prepare_dataset(dataset, processor, RowFormat(), faulty_rows="skip")
    assert len(list(kept)) == 10
    assert report.left_out == {"assistant": ["0 of file 1", "3 of file 2"]}


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_processes_that_share_a_stream_read_every_row_once(workers, processes, tmp_path, processor):
    for name in "abcd":
        as_dataset(3, faulty=2).to_parquet(tmp_path / f"train-{name}.parquet")
    kept, _ = prepare_dataset(load_chat_dataset(tmp_path, streaming=True), processor, RowFormat(), faulty_rows="skip")
    shares = [split_dataset_by_node(kept, rank, processes) if processes > 1 else kept for rank in range(processes)]
    # Forked from a process without threads, as Python 3.14 does; this one has some.
    context = multiprocessing.get_context("forkserver") if workers else None
    if context:
        context.set_forkserver_preload(["datasets", "transformers_fastvlm.training"])
    loaders = [DataLoader(share, None, num_workers=workers, multiprocessing_context=context) for share in shares]
    read = [row["source_row"] for loader in loaders for row in loader]
    assert sorted(read) == [f"{index} of file {file}" for index in range(2) for file in range(1, 5)]


def test_an_empty_file_and_options_without_a_meaning_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has no rows"):
        load_chat_dataset(write_lines(tmp_path, b"", b" "))
    with pytest.raises(ValueError, match="revision cannot be given"):
        load_chat_dataset(write_lines(tmp_path, row(1)), revision="main")
