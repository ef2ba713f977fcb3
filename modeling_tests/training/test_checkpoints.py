"""Which checkpoint a killed run goes on from, and small helpers of the scripts."""

import pytest
import torch
from huggingface_hub import ModelCard

from running_scripts import run_script
from transformers_fastvlm.training import (
    TrainingFacts,
    explained_out_of_memory,
    last_whole_checkpoint,
    remove_cut_off_checkpoints,
    write_adapter_card,
)


def make_checkpoint(folder, step: int, state: str | None = "{}"):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


def test_the_newest_whole_one_is_taken(tmp_path):
    assert last_whole_checkpoint(tmp_path) is None
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
    make_checkpoint(tmp_path, 90)
    newest = make_checkpoint(tmp_path, 100)
    (tmp_path / "checkpoint-final").mkdir()
    assert last_whole_checkpoint(tmp_path) == newest


@pytest.mark.parametrize("state", [None, "", '{"global_step": 20', "[]", "\0"])
def test_ones_that_were_cut_off_are_passed_over_and_removed_when_asked(state, tmp_path):
    pytest.importorskip("accelerate.utils", reason="processes wait for each other through accelerate (`train` extra)")
    whole, cut_off = make_checkpoint(tmp_path, 10), make_checkpoint(tmp_path, 20, state)
    assert last_whole_checkpoint(tmp_path) == whole
    assert cut_off.exists()
    remove_cut_off_checkpoints(tmp_path)
    assert not cut_off.exists()
    assert last_whole_checkpoint(tmp_path) == whole


PROCESS = """
import shutil, sys, time
from pathlib import Path
from accelerate import PartialState
from transformers_fastvlm.training import checkpoints

remove, removed = shutil.rmtree, []

def remove_slowly(folder):
    time.sleep(0.5)
    removed.append(folder.name)
    remove(folder)

checkpoints.shutil.rmtree = remove_slowly
checkpoints.remove_cut_off_checkpoints(sys.argv[1])
left = sorted(path.name for path in Path(sys.argv[1]).glob("checkpoint-*"))
Path(sys.argv[1], f"process-{PartialState().process_index}").write_text(" ".join([*removed, "left", *left]))
"""


def test_one_process_removes_them_and_the_others_wait(tmp_path):
    pytest.importorskip("accelerate.utils", reason="processes wait for each other through accelerate (`train` extra)")
    for step in (10, 20, 30):
        make_checkpoint(tmp_path, step, None if step > 10 else "{}")
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    run_script(script, tmp_path, processes=2)
    assert (tmp_path / "process-0").read_text() == "checkpoint-30 checkpoint-20 left checkpoint-10"
    assert (tmp_path / "process-1").read_text() == "left checkpoint-10"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_says_what_helps(error):
    message = "batch size below 8, .* smaller image than 1024x1024, gradient checkpointing, 4-bit weights"
    with pytest.raises(MemoryError, match=message), explained_out_of_memory(8, 1024, False, 16):
        raise error
    with pytest.raises(MemoryError) as caught, explained_out_of_memory(1, 512, True, 4):
        raise error
    assert str(caught.value) == "Memory ran out. Less is needed with a smaller image than 512x512."


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), explained_out_of_memory(8, 1024, False, 16):
        raise RuntimeError("shapes do not match")


def facts(base: object, dataset: object, **others) -> TrainingFacts:
    given = {"settings": {"rank": 16}, "results": {"eval_loss": 0.123456}} | others
    return TrainingFacts(str(base), str(dataset), **given)


def test_the_adapters_card_says_how_to_use_it(tmp_path):
    path = write_adapter_card(tmp_path / "x", facts("apple/FastVLM-0.5B", "lmms-lab/DocVQA"))
    card = ModelCard.load(path)
    assert card.data.base_model == "apple/FastVLM-0.5B"
    assert card.data.datasets == ["lmms-lab/DocVQA"]
    assert card.data.library_name == "peft"
    assert 'from_pretrained("x")' in card.text
    assert "[apple/FastVLM-0.5B](https://huggingface.co/apple/FastVLM-0.5B)" in card.text
    assert "| eval_loss | 0.1235 |" in card.text
    compile(card.text.partition("```python\n")[2].partition("```")[0], "card", "exec")


def test_folders_of_this_machine_are_not_published_as_hub_ids(tmp_path):
    (tmp_path / "base").mkdir()
    data = tmp_path / "train.jsonl"
    data.touch()
    given = facts(tmp_path / "base", data, command=f"fastvlm finetune --model {tmp_path}/base --dataset={data}")
    card = ModelCard.load(write_adapter_card(tmp_path, given))
    assert card.data.base_model is None
    assert card.data.datasets is None
    assert str(tmp_path) not in card.content
    assert "huggingface.co/base" not in card.content
    assert "fastvlm finetune --model base --dataset=train.jsonl" in card.text


def test_a_card_has_the_base_models_licence_and_what_the_training_changed(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n")
    before = {"eval_anls": 0.25}
    results = {"eval_loss": 1.0, "eval_anls": 0.75}
    card = ModelCard.load(
        write_adapter_card(tmp_path, facts(base, "a/b", before=before, results=results, picture="loss.png"))
    )
    assert (card.data.license, card.data.license_name, card.data.license_link) == ("other", "mine", "LICENSE")
    assert "| | before | after |\n|---|---|---|\n| eval_loss | – | 1 |\n| eval_anls | 0.25 | 0.75 |" in card.text
    assert "](loss.png)" in card.text


def test_the_authors_licence_is_known_without_a_card(tmp_path, original_folder):
    card = ModelCard.load(write_adapter_card(tmp_path, facts(original_folder, "a/b")))
    assert card.data.license == "apple-amlr"


def test_a_whole_models_card_says_nothing_of_adapters(tmp_path):
    card = ModelCard.load(write_adapter_card(tmp_path, facts("org/base", "a/b", adapter=False)))
    assert card.data.library_name == "transformers"
    assert "adapter" not in card.text.lower()
