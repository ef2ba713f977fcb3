"""The command that starts vLLM's server, and what is refused before it starts."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from helpers_tokenizer import write_original_folder
from transformers_fastvlm import extras
from transformers_fastvlm.inference import ModelOptions
from transformers_fastvlm.serving import vllm_server
from transformers_fastvlm.serving.vllm_server import NO_HOST, serve_with_vllm, vllm_command, vllm_environment

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "checkpoints" / "tiny-reader"
MODEL = ModelOptions(pretrained=str(BUNDLED))


def options_of(command: list[str]) -> dict[str, list[str]]:
    """Values by option."""
    found: dict[str, list[str]] = {}
    for word in command:
        if word.startswith("--"):
            name, separator, value = word.partition("=")
            found[name] = [value] if separator else []
            values = found[name]
        elif found:
            values.append(word)
    return found


def write_adapter(folder: Path, rank: int, pattern: dict[str, int]) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "rank_pattern": pattern}))
    return str(folder)


def test_the_plain_command():
    command = vllm_command(MODEL)
    assert command[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    assert options_of(command) == {
        "--model": [str(BUNDLED)],
        "--served-model-name": ["tiny-reader", str(BUNDLED)],
        "--host": ["127.0.0.1"],
        "--port": ["8000"],
        "--dtype": ["float32"],  # the checkpoint's, which vLLM would halve
        "--tensor-parallel-size": ["1"],
        "--tokenizer-mode": ["fastvlm"],
        "--chat-template-content-format": ["openai"],
        "--allowed-media-domains": [NO_HOST],
    }


def test_every_option_reaches_the_command(tmp_path):
    small = write_adapter(tmp_path / "small", 4, {})
    large = write_adapter(tmp_path / "large", 8, {"layers.0": 40})
    command = vllm_command(
        ModelOptions(pretrained=str(BUNDLED), dtype="bfloat16", resolution=512),
        host="0.0.0.0",
        port=9,
        names=["reader"],
        adapters={"a": small, "b": large},
        tiles=True,
        tensor_parallel=2,
        allow_local_path=tmp_path,
        allow_url=["https://pictures.example/", "http://other.example"],
        more=["--port", "10"],
    )
    assert command[-2:] == ["--port", "10"]
    found = options_of(command[:-2])
    assert found["--served-model-name"] == ["reader"] and found["--dtype"] == ["bfloat16"]
    assert found["--host"] == ["0.0.0.0"] and found["--port"] == ["9"] and found["--tensor-parallel-size"] == ["2"]
    assert json.loads(*found["--mm-processor-kwargs"]) == {"size": 512, "do_tile": True}
    assert found["--lora-modules"] == [f"a={small}", f"b={large}"] and found["--max-lora-rank"] == ["64"]
    assert "--enable-lora" in found
    assert found["--allowed-local-media-path"] == [str(tmp_path)]
    assert found["--allowed-media-domains"] == ["pictures.example", "other.example"]


def test_an_original_folder_has_its_own_dtype(golden, tmp_path):
    config = json.loads((golden / "original" / "config.json").read_text())
    folder = write_original_folder(tmp_path / "FastVLM-0.5B", config)
    found = options_of(vllm_command(ModelOptions(pretrained=str(folder))))
    assert found["--dtype"] == ["bfloat16"]
    assert found["--served-model-name"] == ["FastVLM-0.5B", str(folder)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "x"}, "give this one a name"),
        ({"quantization": "nf4"}, "--quantization is for the engine transformers"),
        ({"compiled": True}, "--compile is for the engine transformers"),
        ({"static_cache": True}, "--static-cache is for the engine transformers"),
    ],
)
def test_what_vllm_has_its_own_way_for_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        vllm_command(ModelOptions(pretrained=str(BUNDLED), **options))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("pictures.example", "no address that images can be fetched from"),
        ("ftp://pictures.example/", "no address that images can be fetched from"),
        ("https://pictures.example/cats", "allows whole hosts"),
        ("https://pictures.example:8443/", "allows whole hosts"),
    ],
)
def test_addresses_say_a_host_alone(address, message):
    with pytest.raises(ValueError, match=message):
        vllm_command(MODEL, allow_url=[address])


def test_other_models_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(ValueError, match="no FastVLM checkpoint that vLLM runs, but of type qwen2"):
        vllm_command(ModelOptions(pretrained=str(tmp_path)))


def test_adapters_of_too_large_a_rank_are_refused(tmp_path):
    with pytest.raises(ValueError, match="rank 512 at most, not 600"):
        vllm_command(MODEL, adapters={"a": write_adapter(tmp_path / "a", 600, {})})


def test_the_key_is_in_the_environment(monkeypatch):
    monkeypatch.setenv("VLLM_MEDIA_URL_ALLOW_REDIRECTS", "1")
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    environment = vllm_environment("secret")
    assert environment["VLLM_API_KEY"] == "secret" and "secret" not in vllm_command(MODEL)
    assert environment["VLLM_NO_USAGE_STATS"] == "1" and environment["PATH"] == os.environ["PATH"]
    assert environment["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "1"  # whoever sets it, means it
    assert "VLLM_API_KEY" not in vllm_environment()


def test_serving_becomes_the_command(monkeypatch):
    seen = []
    monkeypatch.setattr(extras, "is_installed", lambda module: True)
    monkeypatch.setattr(vllm_server.os, "execve", lambda *arguments: seen.append(arguments))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve_with_vllm(MODEL, api_key="secret", port=port)
    ((program, command, environment),) = seen
    assert program == sys.executable and command == vllm_command(MODEL, port=port)
    assert environment["VLLM_API_KEY"] == "secret"


def test_a_missing_vllm_is_named(monkeypatch):
    monkeypatch.setattr(extras, "is_installed", lambda module: False)
    with pytest.raises(extras.MissingLibraryError, match=r"vllm.*pip install 'transformers-fastvlm\[vllm\]'"):
        serve_with_vllm(MODEL)


def test_a_port_in_use_is_named(monkeypatch):
    monkeypatch.setattr(extras, "is_installed", lambda module: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match=f"Cannot listen on 127.0.0.1:{taken.getsockname()[1]}: Address already"):
            serve_with_vllm(MODEL, port=taken.getsockname()[1])


def manifests() -> list[dict]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "vllm.yaml").read_text(encoding="utf-8")))


@pytest.mark.filterwarnings("ignore")
def test_the_kubernetes_manifests_keep_to_the_schema():
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="the schema needs kubernetes-validate")
    deployment, service = manifests()
    version = kubernetes_validate.latest_version()
    for manifest in (deployment, service):
        kubernetes_validate.validate(manifest, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment | {"replicas": 2}, version, strict=True)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels


def test_the_kubernetes_manifest_starts_what_the_command_starts():
    (container,) = manifests()[0]["spec"]["template"]["spec"]["containers"]
    command = vllm_command(MODEL, host="0.0.0.0")
    assert container["command"][1:] == command[1:3]
    written, usual = options_of(container["args"]), options_of(command)
    assert written.keys() == usual.keys()
    of_the_model = ("--model", "--served-model-name", "--dtype")
    assert all(written[name] == usual[name] for name in written if name not in of_the_model)
    variables = {each["name"]: each.get("value") for each in container["env"]}
    settings = {name: value for name, value in vllm_environment().items() if os.environ.get(name) != value}
    assert settings.items() <= variables.items() and variables.keys() - settings.keys() == {"VLLM_API_KEY"}
