"""Where a row's images are, and which of them may be read."""

import base64

import pytest

from chat_rows import make_processor, picture, png
from transformers_fastvlm.training import RowError, RowFormat, load_chat_dataset, prepare_dataset, row_images
from transformers_fastvlm.training.row_images import ROOT_COLUMN, ImageAccess, put_in_place, read_row_image, values_in

datasets = pytest.importorskip("datasets", reason="data sets are read with `datasets` (the `train` extra)")
pytest.importorskip("accelerate.utils", reason="processes share the checking through accelerate (the `train` extra)")
NOTHING, ALL = ImageAccess(), ImageAccess(urls=True, outside=True)


@pytest.fixture
def folders(tmp_path):
    """A folder of a data set with a picture in it, and a picture beside it."""
    inside = tmp_path / "data"
    inside.mkdir()
    for path in (inside / "in.png", tmp_path / "out.png"):
        path.write_bytes(png(picture()))
    (inside / "link.png").symlink_to(tmp_path / "out.png")
    return inside


def test_files_under_the_folder_are_read(folders):
    for name in ("in.png", str(folders / "in.png"), "./in.png"):
        assert read_row_image(name, 0, str(folders), NOTHING).size == (90, 60)


@pytest.mark.parametrize("name", ["../out.png", "{out}", "link.png"])
@pytest.mark.parametrize("stored", [False, True])
def test_others_only_where_that_is_allowed(folders, name, stored):
    value = name.format(out=folders.parent / "out.png")
    value = {"bytes": None, "path": value} if stored else value
    with pytest.raises(RowError, match=r"Image 3: .*is outside of .*data \(--allow_outside\)") as caught:
        read_row_image(value, 3, str(folders), NOTHING)
    assert caught.value.reason == "image"
    assert read_row_image(value, 3, str(folders), ALL).size == (90, 60)


def test_nor_do_rows_of_the_hub_lead_to_files(folders, monkeypatch):
    monkeypatch.chdir(folders)
    for name in ("in.png", str(folders / "in.png")):
        with pytest.raises(RowError, match="outside of the data set"):
            read_row_image(name, 0, "", NOTHING)


def test_rows_of_the_hub_lead_to_what_was_stored_of_them(folders, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folders)
    assert read_row_image({"bytes": None, "path": str(folders / "in.png")}, 0, "", NOTHING).size == (90, 60)


def test_rows_of_ones_own_name_any_file(folders):
    assert read_row_image(str(folders.parent / "out.png"), 0, None, NOTHING).size == (90, 60)


@pytest.mark.parametrize(
    "address", ["https://user:secret@example.com/a.png", "http://127.0.0.1/a.png", "file:///a.png"]
)
def test_addresses_are_fetched_only_where_that_is_allowed(address, monkeypatch):
    asked = []
    monkeypatch.setattr(row_images, "read_image", lambda name: asked.append(name) or picture())
    for root in (None, "", "/"):
        with pytest.raises(RowError, match="is an address, and addresses are not allowed") as caught:
            read_row_image(address, 0, root, NOTHING)
        assert "secret" not in str(caught.value)
    assert not asked
    assert read_row_image(address, 0, "", ALL).size == (90, 60)
    assert asked == [address]


def test_contents_are_read_as_they_are():
    data = png(picture())
    text = base64.b64encode(data).decode()
    for value in (data, text, f"data:image/png;base64,{text}", {"bytes": data}, picture()):
        assert read_row_image(value, 0, "", NOTHING).size == (90, 60)


@pytest.mark.parametrize(
    ("column", "values"),
    [(None, []), ("", []), ("a.png", ["a.png"]), (["a", "b"], ["a", "b"]), ('["a", "b"]', ["a", "b"]), ("[a", ["[a"])],
)
def test_columns_have_one_image_or_several(column, values):
    assert values_in(column) == values


def message(*parts) -> dict:
    return {"role": "user", "content": list(parts)}


TEXT = {"type": "text", "text": "?"}
IMAGE = {"type": "image"}


@pytest.mark.parametrize(
    ("parts", "column", "order"),
    [
        ([IMAGE, TEXT, IMAGE], ["a", "b"], ["a", "b"]),
        ([{**IMAGE, "index": 1}, TEXT, {**IMAGE, "index": 0}], ["a", "b"], ["b", "a"]),
        ([{**IMAGE, "index": 0}, {**IMAGE, "index": 0}], ["a", "b"], ["a", "b"]),
        ([{**IMAGE, "image": "a"}, TEXT], [], ["a"]),
        ([{**IMAGE, "image": "a"}, IMAGE], ["b"], ["a", "b"]),
        ([{"type": "image_url", "image_url": {"url": "a"}}], [], ["a"]),
        ([{**IMAGE, "image": None, "text": None}], ["a"], ["a"]),
        ([TEXT], ["a", "b"], ["a", "b"]),
    ],
)
def test_images_in_the_order_of_their_places(parts, column, order):
    (placed,), images = put_in_place([message(*parts)], column, "<image>")
    assert images == order
    assert [part for part in placed["content"] if part["type"] == "image"] == [IMAGE] * len(order)


@pytest.mark.parametrize("column", [["a"], ["a", "b", "c"], []])
def test_as_many_images_as_places(column):
    with pytest.raises(RowError, match=f"{len(column)} images but 2 `<image>`"):
        put_in_place([message(IMAGE, TEXT, IMAGE)], column, "<image>")


def test_an_own_placeholder_stands_for_the_usual_one():
    (first, second), _ = put_in_place(
        [{"role": "user", "content": "<image>?"}, message({"type": "text", "text": "<image>!"})], ["a", "b"], "<|i|>"
    )
    assert (first["content"], second["content"][0]["text"]) == ("<|i|>?", "<|i|>!")


def test_parts_that_are_none_are_named():
    for part in ({"type": "video"}, {"text": "?"}, "?"):
        with pytest.raises(RowError, match="not 'text' or 'image'"):
            put_in_place([message(part)], [], "<image>")
    with pytest.raises(RowError, match="no user's turn"):
        put_in_place([{"role": "assistant", "content": "A."}], ["a"], "<image>")


def test_a_file_of_rows_leads_nowhere_else(folders):
    (folders / "rows.csv").write_text("question,answer,image\nWhat?,That.,in.png\nWhat?,That.,../out.png\n")
    (folders / "rows.jsonl").write_text('{"question": "?", "answer": "!", "image": "../out.png"}\n')
    processor = make_processor()
    kept, report = prepare_dataset(load_chat_dataset(folders / "rows.csv"), processor, faulty_rows="skip")
    assert (len(kept), report.left_out) == (1, {"image": [1]})
    with pytest.raises(RowError, match=r"Line 1: Image 0: \.\./out\.png is outside of"):
        prepare_dataset(load_chat_dataset(folders / "rows.jsonl"), processor)
    prepare_dataset(load_chat_dataset(folders / "rows.jsonl"), processor, RowFormat(access=ALL))


def test_rows_that_are_no_files_have_no_folder():
    dataset = datasets.Dataset.from_list(
        [{"question": "What?", "answer": "That.", "images": [{"bytes": png(picture())}]}]
    )
    kept, _ = prepare_dataset(dataset, make_processor())
    assert ROOT_COLUMN not in kept.column_names
