# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Publishing as users do it: from a checkpoint to a repository that gives the same answers."""

import json
import runpy
import shutil
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer import Typer
from typer.testing import CliRunner

from conftest import assert_close_to_largest
from helpers_tokenizer import qwen2_tokenizer
from publishing.loopback_hub import client_environment
from running_scripts import run_command
from test_checkpoint_formats import golden_inputs  # noqa: F401
from tiny_models import adapter_for, write_tiny_checkpoint
from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.export import ExportError
from transformers_fastvlm.inference.fixed_inputs import fixed_inputs, last_logits
from transformers_fastvlm.publishing.command import ask_to_overwrite, publish_command
from transformers_fastvlm.publishing.errors import PublishError
from transformers_fastvlm.publishing.hub_transfer import Target
from transformers_fastvlm.publishing.publication import publish, verify_download
from transformers_fastvlm.publishing.publish_settings import PublishSettings
from transformers_fastvlm.publishing.remote_code import write_remote_code
from transformers_fastvlm.quantization import quantization_config

BUNDLED = Path(__file__).parents[2] / "checkpoints" / "tiny-reader"
REPO = "acme/reader"
AGREEMENT = "Apple Machine Learning Research Model License Agreement, made up for this test\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def settings(source, **changes):
    values = {"license": "mit", "remote_code": False, **changes}
    return PublishSettings(str(source), REPO, **values)


def logits_of(location, **arguments):
    model = AutoModelForImageTextToText.from_pretrained(location, **arguments).eval()
    return last_logits(model, fixed_inputs(AutoProcessor.from_pretrained(location)))


OVERWRITING = [
    (True, False, False, True),
    (False, False, True, False),
    (False, True, True, True),
    (False, True, False, False),
]


def run(*arguments):
    app = Typer()
    app.command()(publish_command)
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [str(argument) for argument in arguments])


def test_published_and_read_back_by_its_id(hub, tiny, work):
    address = publish(settings(tiny, max_shard_size="100KB"), work, HfApi())
    assert address.startswith(f"{hub.endpoint}/{REPO}/commit/")
    files = set(hub.snapshot(REPO))
    assert {"model.safetensors.index.json", "config.json", "README.md"} < files
    assert sum(name.endswith(".safetensors") for name in files) > 1
    assert not any(name.endswith(".py") for name in files)
    assert torch.equal(logits_of(REPO), logits_of(tiny))
    index = json.loads(hub.snapshot(REPO)["model.safetensors.index.json"])
    assert index["metadata"]["total_size"] > 0
    assert ModelCard.load(REPO).data.license == "mit"


def test_the_same_again_is_nothing_new_and_other_files_need_a_word(hub, tiny, work, tmp_path):
    publish(settings(tiny), work / "first", HfApi())
    head, before = hub.head(REPO), hub.snapshot(REPO)
    assert "has these very files already" in publish(settings(tiny), work / "second", HfApi())
    assert hub.head(REPO) == head
    with pytest.raises(PublishError, match="acme/reader has other files already. `--overwrite`"):
        publish(settings(tiny, variant="bf16"), work / "third", HfApi())
    assert (hub.head(REPO), hub.snapshot(REPO)) == (head, before)
    publish(settings(tiny, variant="bf16"), work / "fourth", HfApi(), may_overwrite=lambda target: True)
    assert json.loads(hub.snapshot(REPO)["config.json"])["dtype"] == "bfloat16"
    publish(settings(tiny, create_pr=True), work / "fifth", HfApi())
    pull_request = AutoModelForVision2Seq.from_pretrained(REPO, revision="refs/pr/1")
    assert (pull_request.dtype, AutoModelForVision2Seq.from_pretrained(REPO).dtype) == (torch.float32, torch.bfloat16)
    assert json.loads(hub.snapshot(REPO, "refs/pr/1")["config.json"])["dtype"] == "float32"
    assert json.loads(hub.snapshot(REPO)["config.json"])["dtype"] == "bfloat16"


@pytest.mark.parametrize("variant", ["bf16", "fp16", "int8", "nf4"])
def test_variants(variant, tiny, work):
    if variant in ("int8", "nf4"):
        pytest.importorskip("bitsandbytes", reason="quantized variants need bitsandbytes and torchao")
        pytest.importorskip("torchao", reason="quantized variants need bitsandbytes and torchao")
    publish(settings(tiny, variant=variant), work)
    config = json.loads((work / "config.json").read_text())
    if variant in ("int8", "nf4"):
        options = {"quantization_config": quantization_config(variant)}
        assert config["quantization_config"]
        assert "bits" in (work / "README.md").read_text()
    else:
        options = {"dtype": {"bf16": "bfloat16", "fp16": "float16"}[variant]}
        assert config["dtype"] == options["dtype"]
    model = AutoModelForVision2Seq.from_pretrained(tiny, **options).eval()
    expected = last_logits(model, fixed_inputs(AutoProcessor.from_pretrained(tiny)))
    torch.testing.assert_close(logits_of(work), expected)
    assert not torch.equal(expected.float(), logits_of(tiny))
    tower = [tensor for name, tensor in load_file(work / "model.safetensors").items() if "vision_tower" in name]
    expected_dtype = torch.bfloat16 if variant == "bf16" else torch.float32
    assert {tensor.dtype for tensor in tower if tensor.is_floating_point()} == {expected_dtype}


def test_round_trip_of_an_original_gives_the_golden_logits(
    hub,
    original_folder,
    golden_inputs,  # noqa: F811
    golden_outputs,
    work,
    tmp_path,
):
    source = tmp_path / "original"
    source.mkdir()
    for name in ("config.json", "model.safetensors"):
        (source / name).symlink_to(original_folder / name)
    qwen2_tokenizer(151643, padding_side="right").save_pretrained(source)
    (source / "LICENSE").write_text(AGREEMENT)
    publish(settings(source, license=None, base_model="apple/FastVLM-0.5B"), work, HfApi())
    model = AutoModelForVision2Seq.from_pretrained(REPO)
    with torch.no_grad():
        logits = model(**golden_inputs, logits_to_keep=1).logits[:, -1]
    assert_close_to_largest(logits, golden_outputs["vlm_two_images_last_logits"])
    assert AutoProcessor.from_pretrained(REPO).image_token_id == 151646
    assert hub.snapshot(REPO)["LICENSE"].decode() == AGREEMENT
    data = ModelCard.load(REPO).data
    assert (data.license, data.base_model) == ("apple-amlr", "apple/FastVLM-0.5B")
    saved = json.loads(hub.snapshot(REPO)["config.json"])
    assert saved["weights_license"] == saved["vision_config"]["weights_license"] == "apple-amlr"
    # A step further: what is made of the published repository is still the authors'.
    with pytest.raises(PublishError, match="cannot be published under 'mit'"):
        publish(settings(REPO), work / "again", HfApi())


def adapter_logits(base, folder):
    return last_logits(adapter_for(base, folder), fixed_inputs(AutoProcessor.from_pretrained(base)))


def test_an_adapter_as_it_is_and_merged(hub, tiny, work, tmp_path):
    expected = adapter_logits(tiny, tmp_path / "adapter")
    assert not torch.allclose(expected, logits_of(tiny), atol=0.1)
    publish(settings(tmp_path / "adapter"), work / "merged", HfApi())
    torch.testing.assert_close(logits_of(REPO), expected, atol=1e-4, rtol=1e-4)
    assert "adapter_config.json" not in hub.snapshot(REPO)

    adapter = PublishSettings(
        str(tmp_path / "adapter"), "acme/adapter", adapter=True, base_model=REPO, license="mit", remote_code=False
    )
    HfApi().create_repo("acme/base")
    HfApi().upload_folder(repo_id="acme/base", folder_path=tiny)
    publish(PublishSettings(**{**vars(adapter), "base_model": "acme/base"}), work / "adapter", HfApi())
    files = hub.snapshot("acme/adapter")
    assert {"adapter_model.safetensors", "adapter_config.json", "processor_config.json"} < set(files)
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "acme/base"
    data = ModelCard.load("acme/adapter").data
    assert (data.library_name, data.base_model, data.base_model_relation) == ("peft", "acme/base", "adapter")
    torch.testing.assert_close(logits_of("acme/adapter"), expected, atol=1e-4, rtol=1e-4)


def test_an_adapter_in_16_bits(tiny, work, tmp_path):
    adapter_for(tiny, tmp_path / "adapter")
    publish(settings(tmp_path / "adapter", adapter=True, base_model="acme/base", variant="bf16"), work)
    assert {tensor.dtype for tensor in load_file(work / "adapter_model.safetensors").values()} == {torch.bfloat16}


def test_measurements_of_another_kind_are_refused_before_anything_is_loaded(tiny, work, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers_fastvlm.publishing.publication.load_model", lambda *_: pytest.fail("loaded"))
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(PublishError, match="has no results of `fastvlm evaluate`"):
        publish(settings(tiny, results=tmp_path / "results.json"), work)


def test_push_to_hub_of_model_processor_and_adapter(hub, tiny, tmp_path):
    peft = pytest.importorskip("peft", reason="adapters need PEFT (the `train` extra)")
    AutoModelForVision2Seq.from_pretrained(tiny).push_to_hub("acme/pushed")
    AutoProcessor.from_pretrained(tiny).push_to_hub("acme/pushed")
    assert torch.equal(logits_of("acme/pushed"), logits_of(tiny))
    assert hub.snapshot("acme/pushed")["model.safetensors"] == (tiny / "model.safetensors").read_bytes()
    expected = adapter_logits(tiny, tmp_path / "adapter")
    model = peft.PeftModel.from_pretrained(AutoModelForVision2Seq.from_pretrained("acme/pushed"), tmp_path / "adapter")
    model.push_to_hub("acme/pushed-adapter")
    again = peft.PeftModel.from_pretrained(
        AutoModelForVision2Seq.from_pretrained("acme/pushed"), "acme/pushed-adapter"
    )
    inputs = fixed_inputs(AutoProcessor.from_pretrained(tiny))
    assert torch.equal(last_logits(again.eval(), inputs), expected)


def test_the_command(hub, tiny, tmp_path, monkeypatch):
    done = run(tiny, "--repo-id", REPO, "--license", "mit", "--no-remote-code", "--private", "--revision", "v1")
    assert done.exit_code == 0, done.output
    assert f"Published and verified {hub.endpoint}/{REPO}/commit/" in done.stdout
    assert hub.repository(REPO).private
    assert set(hub.snapshot(REPO)) == {".gitattributes"}
    assert "model.safetensors" in hub.snapshot(REPO, "v1")
    done = run(tiny, "--repo-id", REPO, "--license", "mit", "--dry-run", "--folder", tmp_path / "dry")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "dry" / "modeling_fastvlm.py").is_file()
    done = run(tiny, "--repo-id", REPO, "--license", "mit", "--dry-run", "--folder", tmp_path / "dry")
    assert done.exit_code == 1
    assert "is not empty" in done.output
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    done = run(tiny, "--repo-id", REPO, "--license", "mit")
    assert done.exit_code == 1
    assert "Not published. acme/reader cannot be published: The token is not valid" in done.output


@pytest.mark.parametrize("script", ["publish.py", "publish_tiny_reader.py"])
def test_the_scripts_are_the_command(script, hub, monkeypatch, capsys):
    given = [BUNDLED, "--license", "apache-2.0"] if script == "publish.py" else []
    words = [script, *map(str, given), "--repo-id", REPO, "--no-remote-code"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BUNDLED.parents[1] / "hub_upload" / script), run_name="__main__")
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert f"Published and verified {hub.endpoint}/{REPO}/commit/" in printed.out
    card = ModelCard.load(REPO)
    assert card.data.license == "apache-2.0"
    assert bool(card.data.eval_results) == ("LICENSE" in hub.snapshot(REPO)) == (script == "publish_tiny_reader.py")


def test_code_of_the_source_is_left_behind(tiny, work, tmp_path):
    source = shutil.copytree(tiny, tmp_path / "source")
    write_remote_code(source)
    tokenizer = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"auto_map": {"AutoProcessor": "a.B"}}))
    publish(settings(source), work)
    assert not [path.name for path in work.glob("*.py")]
    assert not [path.name for path in work.glob("*.json") if "auto_map" in path.read_text()]
    assert torch.equal(logits_of(work), logits_of(tiny))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exports": ("tflite",)}, "Unknown export 'tflite'; known are onnx, openvino"),
        ({"exports": ("onnx,openvino:q4",)}, "openvino has fp32, bf16, int8, int4, not 'q4'"),
        ({"exports": ("onnx",), "adapter": True}, "An adapter by itself has no exports"),
        ({"exports": ("onnx",), "variant": "nf4"}, "Exports are made of whole weights"),
    ],
)
def test_exports_are_checked_before_anything_is_loaded(changes, message):
    with pytest.raises(PublishError, match=message):
        settings("no/such", **changes)


def test_an_export_that_fails_is_told_in_a_line(tiny, work, monkeypatch):
    def fail(settings):
        raise ExportError("What was written differs.")

    monkeypatch.setattr("transformers_fastvlm.publishing.publication.export", fail)
    with pytest.raises(PublishError, match="cannot be exported to onnx: ExportError: What was written differs."):
        publish(settings(tiny, exports=("onnx",)), work)


def test_a_pull_request_to_a_branch_is_refused(tiny):
    with pytest.raises(PublishError, match="A pull request goes to `main`"):
        settings(tiny, revision="v1", create_pr=True)


def test_a_private_repository_is_read_with_a_token_only(hub, tiny, work, monkeypatch):
    publish(settings(tiny, private=True), work, HfApi())
    assert torch.equal(logits_of(REPO), logits_of(tiny))
    monkeypatch.delenv("HF_TOKEN")
    refused = {None: "not a valid model identifier", "hf_bob": "not a valid", "hf_wrong": "401 Unauthorized"}
    for token, message in refused.items():
        with pytest.raises(OSError, match=message):
            AutoModelForVision2Seq.from_pretrained(REPO, token=token, cache_dir=work / str(token))
    assert AutoModelForVision2Seq.from_pretrained(REPO, token="hf_alice", cache_dir=work / "alice")


@pytest.mark.parametrize(("overwrite", "terminal", "word", "may"), OVERWRITING)
def test_who_may_overwrite(overwrite, terminal, word, may, monkeypatch):
    questions = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: terminal))
    monkeypatch.setattr("typer.confirm", lambda question: questions.append(question) or word)
    assert ask_to_overwrite(overwrite)(Target(REPO, files={"config.json": "0"})) == may
    assert questions == (["acme/reader has 1 files already. Replace them?"] if terminal and not overwrite else [])


def test_a_full_disk_is_seen_before_anything_is_written(tiny, work, monkeypatch):
    usage = shutil.disk_usage(work)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(PublishError, match=r"need 0\.1 GiB, but the disk of .* has 0\.0 GiB free"):
        publish(settings(tiny), work)
    assert not any(work.iterdir())


NO_SPACE = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError(NO_SPACE)])
def test_a_disk_that_gets_full(error, tiny, work, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", fail)
    with pytest.raises(PublishError, match="is full. Nothing was uploaded"):
        publish(settings(tiny), work)


def test_a_download_that_differs_is_noticed(tmp_path):
    for folder, content in (("ours", "1"), ("theirs", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(content)
    with pytest.raises(PublishError, match=r"differs from what was uploaded: config\.json"):
        verify_download(tmp_path / "ours", tmp_path / "theirs")


READER = """
import json, sys
from transformers import (
    AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, pipeline
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor

package = sys.argv[2] == "with"
if package:
    import transformers_fastvlm
else:
    try:
        import transformers_fastvlm
        sys.exit("the package is here")
    except ImportError:
        pass
repo, image = sys.argv[1], sys.argv[3]
trust = {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained(repo, **trust)
config = AutoConfig.from_pretrained(repo, **trust)
content = [{"type": "image", "image": image}, {"type": "text", "text": "What does it say?"}]
messages = [{"role": "user", "content": content}]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
found = {}
for auto in (AutoModelForImageTextToText, AutoModelForCausalLM):
    model = auto.from_pretrained(repo, **trust)
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    answer = processor.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    found[auto.__name__] = [type(model).__module__.split(".")[0], answer]
base = AutoModel.from_pretrained(repo, **trust)
found["AutoModel"] = [type(base).__name__, float(base(**inputs).last_hidden_state.abs().sum())]
encoder = AutoModel.from_pretrained(repo, config=config.vision_config, **trust)
found["encoder"] = [type(encoder).__name__, float(encoder(inputs["pixel_values"]).last_hidden_state.abs().sum())]
images = AutoImageProcessor.from_pretrained(repo, **trust)
pixels = images([image], return_tensors="pt")["pixel_values"]
found["AutoImageProcessor"] = [type(images).__name__, float((pixels - inputs["pixel_values"]).abs().sum())]
found["AutoTokenizer"] = AutoTokenizer.from_pretrained(repo, **trust)("What does it say?").input_ids
ask = pipeline("image-text-to-text", model=repo, **trust)
answer = ask(text=messages, return_full_text=False, generate_kwargs={"max_new_tokens": 12, "do_sample": False})
found["pipeline"] = answer[0]["generated_text"]
print(json.dumps(found))
"""


def test_readers_without_the_package_get_the_same_answers_from_every_auto_class(hub, work, tmp_path):
    """A process started without site-packages' path files does not find this package, which is installed by one."""
    publish(PublishSettings(str(BUNDLED), REPO, license="apache-2.0"), work, HfApi())
    script = tmp_path / "reader.py"
    script.write_text(READER)
    environment = client_environment(hub, tmp_path / "home")
    packages = {"PYTHONPATH": sysconfig.get_path("purelib")}
    found = {}
    for name, command, extra in (
        ("with", [sys.executable], {}),
        ("without", [sys.executable, "-S"], packages),
    ):
        image = str(BUNDLED / "images" / "sign.png")
        printed = run_command([*command, str(script), REPO, name, image], environment | extra)
        found[name] = json.loads(printed.splitlines()[-1])
    for auto in ("AutoModelForImageTextToText", "AutoModelForCausalLM"):
        assert found["with"][auto] == ["transformers_fastvlm", "HELLO"]
        assert found["without"][auto] == ["transformers_modules", "HELLO"]
    for name in ("AutoModel", "encoder", "AutoImageProcessor", "AutoTokenizer", "pipeline"):
        assert found["with"][name] == found["without"][name]
    assert found["with"]["encoder"][0] == "FastViTHDModel"
    assert found["with"]["AutoImageProcessor"][1] == 0


def test_snapshot_of_a_repository_loads_as_a_folder(hub, tiny, work):
    publish(settings(tiny), work, HfApi())
    assert torch.equal(logits_of(snapshot_download(REPO)), logits_of(tiny))
