"""Running scripts as users do, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

# One thread, no GPU, and distributed training on the CPU where it would look for GPUs.
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "ACCELERATE_USE_CPU": "true",
    "DS_ACCELERATOR": "cpu",
}


def script_command(script: Path | str, *arguments: object, processes: int = 1) -> list[str]:
    """The command for a script's file, or for a module by its name."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    program = [str(script)] if isinstance(script, Path) else ["-m", script]
    return [*start, *program, *map(str, arguments)]


def run_script(script: Path | str, *arguments: object, processes: int = 1) -> str:
    """What it prints; a failure shows what it complained of."""
    return run_command(script_command(script, *arguments, processes=processes))


def run_command(command: list[str], environment: dict[str, str] = ENVIRONMENT, folder: Path | None = None) -> str:
    """The same of any command, started in `folder`."""
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
