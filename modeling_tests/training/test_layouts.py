"""Every layout in every kind of file gives the tokens and labels of the plain conversation."""

import csv
import io
import json
import tarfile

import pytest

from chat_rows import make_processor, picture, png
from transformers_fastvlm.training import (
    RowFormat,
    load_chat_dataset,
    prepare_dataset,
    recognised_layout,
    rows_for_trl,
)
from transformers_fastvlm.training.collator import FastVLMDataCollator
from transformers_fastvlm.training.layouts import LAYOUTS, RowError, find_columns, one_of, to_preference
from transformers_fastvlm.training.rows import NO_LOSS, encode_row

datasets = pytest.importorskip("datasets", reason="data sets are read with `datasets` (the `train` extra)")
pytest.importorskip("accelerate.utils", reason="processes share the checking through accelerate (the `train` extra)")
Q, A = "What is it?", "A cat."
CANONICAL = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": Q}]},
    {"role": "assistant", "content": A},
]
LLAVA = [{"from": "human", "value": f"<image>\n{Q}"}, {"from": "gpt", "value": A}]
# Name: the layout that is found, and the row's columns with text.
ROWS = {
    "messages, placeholders": (
        "messages",
        {"messages": [{"role": "user", "content": f"<image>\n{Q}"}, {"role": "assistant", "content": A}]},
    ),
    "messages, none": (
        "messages",
        {"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]},
    ),
    "messages, parts": (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": Q}]},
                {"role": "assistant", "content": [{"type": "text", "text": A}]},
            ]
        },
    ),
    "LLaVA": ("llava", {"conversations": LLAVA}),
    "LLaVA, none": ("llava", {"conversations": [{"from": "human", "value": Q}, LLAVA[1]]}),
    "question": ("question", {"question": Q, "answer": A}),
    "answers": ("question", {"question": Q, "answers": ["A dog.", A, A]}),
    "answers of VQA": ("question", {"question": Q, "answers": [{"answer": A, "answer_id": 1}]}),
    "completion": ("completion", {"prompt": Q, "completion": A}),
    "completion of messages": (
        "completion",
        {"prompt": [{"role": "user", "content": Q}], "completion": [{"role": "assistant", "content": A}]},
    ),
    "caption": ("caption", {"caption": A}),
    "text": ("caption", {"text": A}),
    "cauldron": ("cauldron", {"texts": [{"user": Q, "assistant": A, "source": "x"}]}),
    "preference": ("preference", {"prompt": Q, "chosen": A, "rejected": "A dog."}),
    "preference of messages": (
        "preference",
        {
            "prompt": [{"role": "user", "content": Q}],
            "chosen": [{"role": "assistant", "content": A}],
            "rejected": [{"role": "assistant", "content": "A dog."}],
        },
    ),
}
CONTAINERS = ["jsonl", "json", "csv", "tsv", "parquet", "arrow", "imagefolder", "webdataset", "in memory"]


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def expected(processor):
    text, pixels = encode_row(processor, {"messages": CANONICAL, "images": [picture()]}, RowFormat())
    return text.input_ids, text.labels, pixels


def as_cells(row: dict) -> dict:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}


def write(kind: str, row: dict, folder):
    """A file or folder with two such rows, or the data set itself."""
    image = folder / "pictures" / "it.png"
    image.parent.mkdir()
    image.write_bytes(png(picture()))
    if kind in ("parquet", "arrow", "in memory"):
        return write_arrow(kind, row, folder)
    return {"imagefolder": write_images, "webdataset": write_shard}.get(kind, write_text)(
        kind, {**row, "image": "pictures/it.png"}, folder
    )


def write_text(kind: str, row: dict, folder):
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text(f"{json.dumps(row)}\n" * 2)
    elif kind == "json":
        path.write_text(json.dumps([row] * 2))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row), delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows([as_cells(row)] * 2)
    return path


def write_images(kind: str, row: dict, folder):
    data = folder / "data"
    data.mkdir()
    row = {name: value for name, value in row.items() if name != "image"}
    for name in ("a.png", "b.png"):
        (data / name).write_bytes(png(picture()))
    lines = [json.dumps({"file_name": name, **row}) for name in ("a.png", "b.png")]
    (data / "metadata.jsonl").write_text("\n".join(lines))
    return data


def write_shard(kind: str, row: dict, folder):
    shards = folder / "shards"
    shards.mkdir()
    with tarfile.open(shards / "000.tar", "w") as tar:
        for key in ("a", "b"):
            for ending, data in (("png", png(picture())), ("json", json.dumps(row).encode())):
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return shards


def write_arrow(kind: str, row: dict, folder):
    dataset = datasets.Dataset.from_list([{**row, "images": [{"bytes": png(picture()), "path": None}]}] * 2)
    dataset = dataset.cast(datasets.Features({**dataset.features, "images": datasets.List(datasets.Image())}))
    if kind == "parquet":
        dataset.to_parquet(folder / "rows.parquet")
        return folder / "rows.parquet"
    if kind == "arrow":
        dataset.save_to_disk(folder / "saved")
        return folder / "saved"
    return dataset


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("name", ROWS)
def test_every_layout_in_every_container_is_the_same_conversation(kind, name, processor, expected, tmp_path):
    layout, row = ROWS[name]
    source = write(kind, row, tmp_path)
    row_format = RowFormat(question=Q)
    dataset = source if kind == "in memory" else load_chat_dataset(source)
    rows, report = prepare_dataset(dataset, processor, row_format)
    assert (report.checked, report.left_out) == (2, {})
    assert find_columns(rows[0] if "json" not in rows[0] else rows[0]["json"]).layout == layout
    input_ids, labels, pixels = expected
    of_trl = rows_for_trl(rows)
    assert "images" in of_trl[0]  # what TRL's trainers look for
    for each in (rows, of_trl):  # as `finetune_lora` has them, and `finetune_trl`
        batch = FastVLMDataCollator(processor, row_format)([each[0], each[1]])
        for index in range(2):
            assert batch["input_ids"][index].tolist() == input_ids
            assert batch["labels"][index].tolist() == labels
            assert (batch["pixel_values"][index] == pixels[0]).all()
    learnt = [label for label in labels if label != NO_LOSS]
    assert processor.tokenizer.decode(learnt) == f"{A}<|im_end|>"


def test_the_layout_is_told(tmp_path):
    source = write("jsonl", ROWS["LLaVA"][1], tmp_path)
    assert recognised_layout(load_chat_dataset(source)) == (
        "LLaVA conversations in `conversations`, images in `image`"
    )
    strange = datasets.Dataset.from_list([{"a": 1}])
    assert "no known layout: Its columns are `a`" in recognised_layout(strange)


def test_a_layout_can_be_forced(processor):
    row = {"question": Q, "answer": "A dog.", "caption": A, "image": picture()}
    text, _ = encode_row(processor, row, RowFormat(layout="caption"))
    assert A in processor.tokenizer.decode(text.input_ids)
    assert "A dog." not in processor.tokenizer.decode(text.input_ids)
    with pytest.raises(ValueError, match="Unknown layout 'poem'"):
        RowFormat(layout="poem")
    with pytest.raises(RowError, match="there must be `prompt` and `completion`"):
        encode_row(processor, row, RowFormat(layout="completion"))


@pytest.mark.parametrize("row", [{}, {"text": A}, {"question": Q, "image": 1}, {"prompt": Q, "chosen": A}])
def test_rows_of_no_layout_say_what_there_must_be(row, processor):
    with pytest.raises(RowError, match="Its columns are") as caught:
        encode_row(processor, row, RowFormat())
    assert all(each.needs in str(caught.value) for each in LAYOUTS.values())


def test_the_answer_that_most_people_gave():
    assert one_of(["a", "b", "b", "a", "b"]) == "b"
    assert one_of(["a", "b", "b", "a"]) == "a"
    assert one_of('["a", "b", "b"]') == "b"
    assert one_of("[a") == "[a"


def test_a_preference_without_a_prompt_has_the_turns_that_both_begin_with():
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": Q}]
    chosen, rejected = ([*asked, {"role": "assistant", "content": text}] for text in (A, "A dog."))
    row = {"chosen": chosen, "rejected": rejected}
    assert to_preference(row, find_columns(row)) == (asked, chosen[2:], rejected[2:])


SEVERAL = {
    "none": (0, [("user", "Hi"), ("assistant", "Hello")]),
    "two in front": (2, [("user", "Compare."), ("assistant", "Alike.")]),
    "two in turns": (
        2,
        [("user", "<image>First?"), ("assistant", "A."), ("user", "<image>Second?"), ("assistant", "B.")],
    ),
    "system": (1, [("system", "Be brief."), ("user", "What?"), ("assistant", "A cat.")]),
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("llava", [False, True])
def test_rows_of_several_images_turns_and_system_prompts(name, llava, processor):
    count, turns = SEVERAL[name]
    images = [picture(60 + 30 * index) for index in range(count)]
    roles = {"user": "human", "assistant": "gpt", "system": "system"}
    if llava:
        row = {"conversations": [{"from": roles[role], "value": text} for role, text in turns], "image": images}
    else:
        row = {"messages": [{"role": role, "content": text} for role, text in turns], "images": images}
    text, pixels = encode_row(processor, row, RowFormat())
    marked = any("<image>" in text for _, text in turns)
    first = next(index for index, (role, _) in enumerate(turns) if role == "user")
    messages = [{"role": role, "content": [{"type": "text", "text": said}]} for role, said in turns]
    if not marked:
        messages[first]["content"] = [{"type": "image"}] * count + messages[first]["content"]
    whole = processor.apply_chat_template(messages, tokenize=False)
    wanted = processor(images=images or None, text=whole, return_tensors="pt")
    assert text.input_ids == wanted["input_ids"][0].tolist()
    said = "".join(f"{text}<|im_end|>" for role, text in turns if role == "assistant")
    assert processor.tokenizer.decode([label for label in text.labels if label != NO_LOSS]) == said
    assert (pixels is None) if count == 0 else pixels.shape[0] == count
