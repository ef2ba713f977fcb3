# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""A damaged or hostile checkpoint folder is refused clearly, or loads as what its files hold, and as nothing else."""

import functools
import json
import shutil
import struct
import tempfile
from pathlib import Path

import PIL.Image
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoProcessor

from robustness.harness import Refused, attempt, fuzzed
from robustness.strategies import NOT_A_DICTIONARY, ODD_VALUES, Labelled, damaged_bytes, damaged_trees, to_json
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm import (
    AutoModelForVision2Seq,
    FastViTHDModel,
    FastVLMForConditionalGeneration,
    FastVLMProcessor,
)

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@functools.cache
def sound_folder() -> Path:
    keep = tempfile.TemporaryDirectory(prefix="fastvlm-sound-")
    sound_folder.keep = keep  # type: ignore[attr-defined]
    return write_tiny_checkpoint(Path(keep.name))


@functools.cache
def sound_tensors() -> dict[str, torch.Tensor]:
    return load_file(sound_folder() / WEIGHTS)


def new_folder(inside: str) -> Path:
    return Path(shutil.copytree(sound_folder(), Path(inside) / "checkpoint"))


def load(folder: Path, *terms: str):
    return attempt(
        lambda: AutoModelForVision2Seq.from_pretrained(folder),
        str(folder), *(path.name for path in folder.iterdir()), *terms,
    )  # fmt: skip


def assert_holds(model, tensors: dict[str, torch.Tensor]) -> None:
    """The model has exactly these tensors."""
    state = model.state_dict()
    assert state.keys() == tensors.keys(), state.keys() ^ tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(state[name], tensor), name


def split_safetensors(data: bytes) -> tuple[dict, bytes]:
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


@st.composite
def damaged_weights(draw) -> Labelled:
    """A safetensors file whose header or length is wrong; the tensors' numbers are left alone."""
    data = (sound_folder() / WEIGHTS).read_bytes()
    damaged = draw(
        st.one_of(
            st.sampled_from([0, 1, 7, len(data), 2**31, 2**63, 2**64 - 1]).map(lambda size: with_size(data, size)),
            st.integers(0, len(data)).map(lambda size: with_size(data, size)),
            st.integers(0, len(data) - 1).map(lambda end: data[:end]),
            st.binary(min_size=1, max_size=16).map(lambda more: data + more),
            st.sampled_from([b"PK\x03\x04", b"\x80\x04K\x01.", b"version https://git-lfs", b"<html>"]) | st.binary(),
            st.sampled_from([b"{}", b"[]", b"null", b'{"__metadata__": {"format": "pt"}}']).map(with_header),
            damaged_headers(),
            damaged_headers(),
        )
    )
    first = next((index for index, (one, other) in enumerate(zip(data, damaged)) if one != other), len(damaged))
    around = damaged[max(8, first - 60) : first + 60]
    return Labelled(damaged, f"{len(damaged)} bytes, other from {first} on: {damaged[:8]!r}…{around!r}")


def with_size(data: bytes, size: int) -> bytes:
    return struct.pack("<Q", size) + data[8:]


def with_header(text: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + body


def compact(header: dict) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


@st.composite
def damaged_headers(draw) -> bytes:
    header, body = split_safetensors((sound_folder() / WEIGHTS).read_bytes())
    if draw(st.booleans()):
        return with_header(draw(damaged_bytes(st.just(compact(header)))), body)
    name = draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
    return with_header(compact(header | {name: draw(damaged_trees(header[name])).tree}), body)


@fuzzed(40, data=damaged_weights())
def test_damaged_weights_are_refused_or_load_whole(data):
    with tempfile.TemporaryDirectory() as inside:
        folder = new_folder(inside)
        (folder / WEIGHTS).write_bytes(data.value)
        model = load(folder)
        if not isinstance(model, Refused):
            assert_holds(model, load_file(folder / WEIGHTS))
            assert model.state_dict().keys() == sound_tensors().keys()


def changed(how: str, tensors: dict[str, torch.Tensor], name: str, draw) -> dict[str, torch.Tensor]:
    """Tensors with the one of that name changed, or one more."""
    tensors = dict(tensors)
    tensor = tensors[name].clone()
    if how in ("drop", "rename"):
        del tensors[name]
    if how == "rename":
        other = [name + "_", name.upper(), "x." + name, name.replace("model", "modle"), "x"]
        tensors[draw(st.sampled_from(other))] = tensor
    elif how == "add":
        added = ["x", "model.vision_tower.extra.weight", "model.language_model.layers.2.mlp.up_proj.weight", ""]
        tensors[draw(st.sampled_from(added))] = tensor
    elif how == "shape":
        tensors[name] = torch.cat([tensor, tensor]) if tensor.ndim else tensor[None]
    elif how == "flat":
        tensors[name] = tensor.flatten() if tensor.ndim > 1 else tensor[None]
    elif how == "empty":
        tensors[name] = tensor.flatten()[:0]
    elif how == "dtype":
        tensors[name] = tensor.to(draw(st.sampled_from([torch.float64, torch.bfloat16, torch.float16])))
    elif how == "integer":
        tensors[name] = tensor.to(draw(st.sampled_from([torch.int64, torch.int8, torch.bool])))
    return tensors


@fuzzed(3, how=["drop", "rename", "add", "shape", "flat", "empty", "dtype", "integer"], data=st.data())
def test_changed_tensors_are_refused_by_name(how, data):
    floating = sorted(name for name, tensor in sound_tensors().items() if tensor.is_floating_point())
    name = data.draw(st.sampled_from(floating))
    tensors = changed(how, sound_tensors(), name, data.draw)
    with tempfile.TemporaryDirectory() as inside:
        folder = new_folder(inside)
        (folder / WEIGHTS).unlink()
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        model = load(folder, name)
    if how == "dtype":
        assert not isinstance(model, Refused), model
        state = model.state_dict()
        assert all(torch.equal(state[name], tensor.to(state[name].dtype)) for name, tensor in tensors.items())
    else:
        assert isinstance(model, Refused), name
        wanted = [name, *(set(tensors) - set(sound_tensors()))]
        assert any(repr(part)[1:-1] in model.message for part in wanted), model.message


PATHS = [
    "../model.safetensors",
    "/etc/hostname",
    "..",
    ".",
    "",
    "a/b.safetensors",
    "\0",
    "config.json",
    "x" * 300,
    "~",
]


@fuzzed(4, how=["path", "tree", "file", "missing", "swap", "none"], data=st.data())
def test_a_damaged_index_is_refused_or_loads_whole(how, data):
    with tempfile.TemporaryDirectory() as inside:
        folder = new_folder(inside)
        (folder / WEIGHTS).rename(Path(inside) / WEIGHTS)  # what "../model.safetensors" points to
        names = sorted(sound_tensors())
        halves = names[::2], names[1::2]
        for shard, half in zip(SHARDS, halves):
            save_file({name: sound_tensors()[name] for name in half}, folder / shard, metadata={"format": "pt"})
        index = {
            "metadata": {"total_size": 1},
            "weight_map": {name: shard for shard, half in zip(SHARDS, halves) for name in half},
        }
        name = data.draw(st.sampled_from(names))
        if how == "path":
            value = data.draw(st.sampled_from(PATHS) | ODD_VALUES)
            for each in names if data.draw(st.booleans()) else [name]:
                index["weight_map"][each] = value
        elif how == "tree":
            index["weight_map"] = dict(list(index["weight_map"].items())[:2])
            index = data.draw(damaged_trees(index)).tree
        elif how == "missing":
            (folder / SHARDS[1]).unlink()
        elif how == "swap":
            index["weight_map"][name] = SHARDS[index["weight_map"][name] == SHARDS[0]]
        text = data.draw(NOT_A_DICTIONARY) if how == "file" else to_json(index).encode()
        (folder / INDEX).write_bytes(text)
        model = load(folder, name, INDEX)
        if not isinstance(model, Refused):
            assert how in ("none", "swap", "tree"), how
            assert_holds(model, sound_tensors())
        else:
            assert how != "none", model


def damaged_file(path: Path, how: str, draw) -> list[str]:
    """Damage a JSON file; gives the names of what was damaged."""
    if how == "other":
        path.write_bytes(draw(NOT_A_DICTIONARY))
    elif how == "bytes":
        path.write_bytes(draw(damaged_bytes(st.just(path.read_bytes()))))
    elif how == "tree":
        damaged = draw(damaged_trees(json.loads(path.read_text()), 1))
        path.write_text(to_json(damaged.tree))
        return [path.name, *damaged.names]
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
    return [path.name]


DAMAGES = ["other", "bytes", "tree", "folder", "missing"]


# The Auto classes read files before they know whose they are: the properties are those of the classes themselves.
@fuzzed(4, how=DAMAGES, name=st.sampled_from(["config.json", "generation_config.json"]), data=st.data())
def test_damaged_configurations_of_a_model_are_refused_by_name(how, name, data):
    with tempfile.TemporaryDirectory() as inside:
        folder = new_folder(inside)
        terms = damaged_file(folder / name, how, data.draw)
        model = attempt(lambda: FastVLMForConditionalGeneration.from_pretrained(folder), str(folder), *terms)
        if not isinstance(model, Refused):
            assert_holds(model, sound_tensors())


def answer_of(folder: Path) -> tuple[list, float]:
    """What the processor of a folder makes of a prompt with an image."""
    processor = FastVLMProcessor.from_pretrained(folder)
    image = PIL.Image.new("RGB", (20, 10), (200, 30, 10))
    inputs = processor(images=image, text="the <image> user", return_tensors="pt")
    return inputs["input_ids"].tolist(), inputs["pixel_values"].sum().item()


PROCESSOR_FILES = ["processor_config.json", "tokenizer_config.json", "tokenizer.json"]


@fuzzed(6, how=DAMAGES, name=st.sampled_from(PROCESSOR_FILES), data=st.data())
def test_damaged_files_of_a_processor_are_refused_by_name(how, name, data):
    with tempfile.TemporaryDirectory() as inside:
        folder = new_folder(inside)
        terms = damaged_file(folder / name, how, data.draw)
        answer = attempt(lambda: answer_of(folder), str(folder), *PROCESSOR_FILES, *terms)
        if not isinstance(answer, Refused) and how not in ("bytes", "tree"):
            assert answer == answer_of(sound_folder())


@fuzzed(10, data=damaged_weights())
def test_the_encoder_alone_is_refused_or_loads_whole(data):
    with tempfile.TemporaryDirectory() as inside:
        folder = new_folder(inside)
        (folder / WEIGHTS).write_bytes(data.value)
        encoder = attempt(lambda: FastViTHDModel.from_pretrained(folder), str(folder), WEIGHTS)
        if not isinstance(encoder, Refused):
            prefix = "model.vision_tower."
            tensors = load_file(folder / WEIGHTS)
            assert_holds(
                encoder, {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
            )


@fuzzed(
    8, source=st.sampled_from(["no/such", "a/b/c", "", " ", "\0", "x" * 500, "..", "-", "a--b", "https://x", "\ud800"])
)
def test_what_names_no_checkpoint_is_refused(source):
    for load_it in (AutoModelForVision2Seq.from_pretrained, AutoProcessor.from_pretrained, AutoConfig.from_pretrained):
        outcome = attempt(lambda load_it=load_it: load_it(source), source or "''", "huggingface.co", "Repo id")
        assert isinstance(outcome, Refused), source
