"""Converted encoders on disk: damaged, unwritable, half written, written by two processes at once."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from tiny_models import tiny_model
from transformers_fastvlm.inference.openvino_conversion import convert
from transformers_fastvlm.inference.openvino_encoder import OpenVinoEncoder, largest_difference
from transformers_fastvlm.inference.openvino_files import ConvertedEncoderFiles

pytest.importorskip("openvino", reason="OpenVINO comes with the `inference` extra")

PIXELS = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tower():
    return tiny_model().model.vision_tower


@pytest.fixture(scope="module")
def sound_files(tower, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    OpenVinoEncoder(tower, folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(Path(name).suffix for name in files) == [".bin", ".json", ".xml"]
    return files


@pytest.fixture
def folder(sound_files, tmp_path) -> Path:
    for name, data in sound_files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@torch.no_grad()
def assert_right(runtime: OpenVinoEncoder, tower) -> None:
    assert largest_difference(runtime(PIXELS), tower(PIXELS).last_hidden_state) < 1e-4


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    if how == "missing":
        path.unlink()
        return
    path.write_bytes(
        {
            "random bytes": data[:middle] + os.urandom(16) + data[middle + 16 :],
            "other bytes": os.urandom(len(data)),
            "truncated": data[:middle],
            "longer": data + b"\0",
            "empty": b"",
            "another JSON": b'["graph"]',
        }[how]
    )


@pytest.mark.parametrize("how", ["random bytes", "other bytes", "truncated", "longer", "empty", "another JSON", "missing"])
@pytest.mark.parametrize("suffix", [".bin", ".xml", ".json"])
def test_damaged_files_are_written_again(tower, folder, sound_files, suffix, how):
    (damaged,) = folder.glob(f"*{suffix}")
    damage(damaged, how)
    runtime = OpenVinoEncoder(tower, folder)
    assert not runtime.was_cached or (suffix, how) == (".json", "longer")
    assert_right(runtime, tower)
    assert {path.name for path in folder.iterdir()} == sound_files.keys()
    assert OpenVinoEncoder(tower, folder).was_cached


def test_sound_files_are_read(tower, folder):
    runtime = OpenVinoEncoder(tower, folder)
    assert runtime.was_cached
    assert_right(runtime, tower)


def fill_the_disk(model, path, **kwargs):
    path.with_suffix(".bin").write_bytes(b"half")
    raise OSError(28, "No space left on device")


def truncate_in_silence(model, path, **kwargs):
    path.with_suffix(".bin").write_bytes(b"half")
    path.write_bytes(b"<net")


@pytest.mark.parametrize("save_model", [fill_the_disk, truncate_in_silence])
def test_a_full_disk_is_named_and_nothing_half_written_stays(tower, tmp_path, monkeypatch, save_model):
    import openvino

    monkeypatch.setattr(openvino, "save_model", save_model)
    with pytest.raises(OSError, match=f"cannot be kept in {tmp_path}.*Make room.*cache_dir="):
        OpenVinoEncoder(tower, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_access_is_named_before_anything_is_converted(tower, tmp_path):
    (tmp_path / "file").write_text("in the way of the folder, also for an administrator")
    files = ConvertedEncoderFiles(tmp_path / "file" / "cache", tower, None)
    with pytest.raises(OSError, match="cannot be kept in .*give write access"):
        files.write(lambda: pytest.fail("converted"))


def test_an_interrupted_conversion_leaves_nothing(tower, tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ConvertedEncoderFiles(tmp_path, tower, None).write(interrupted)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_after_an_hour(tower, tmp_path):
    old, new = tmp_path / ".partial-old", tmp_path / ".partial-new"
    for each in (old, new):
        each.mkdir()
        (each / "half.bin").write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    ConvertedEncoderFiles(tmp_path, tower, None).write(lambda: convert(tower, None))
    assert not old.exists() and new.exists()


def test_two_processes_at_once_are_safe(tower, tmp_path):
    program = textwrap.dedent(
        """
        import sys, torch
        from pathlib import Path
        from test_openvino_files import assert_right, tiny_model, OpenVinoEncoder
        tower, folder = tiny_model().model.vision_tower, Path(sys.argv[1])
        (folder / f"ready-{sys.argv[2]}").touch()
        while len(list(folder.glob("ready-*"))) < 2:
            pass
        for _ in range(3):
            assert_right(OpenVinoEncoder(tower, folder / "cache"), tower)
            for path in (folder / "cache").glob("*.bin"):
                path.unlink(missing_ok=True)
        assert_right(OpenVinoEncoder(tower, folder / "cache"), tower)
        """
    )
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen([*command, name], env=environment, stderr=subprocess.PIPE) for name in "ab"]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert_right(OpenVinoEncoder(tower, tmp_path / "cache"), tower)
    assert len(list((tmp_path / "cache").iterdir())) == 3
