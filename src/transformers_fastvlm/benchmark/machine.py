# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a benchmark ran on, without which its milliseconds mean little."""

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..extras import installed_versions

# Instruction sets that decide which matrix kernels run, as Linux names them on x86 and Arm.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "sve", "bf16", "i8mm")
LIBRARIES = ("torch", "transformers", "transformers-fastvlm")


@dataclass(frozen=True)
class Machine:
    """
    Args:
        cpu (`str`): the processor's name.
        cpu_flags (`tuple[str, ...]`): those of its instruction sets that matter to matrix products.
        device (`str`): where the models ran; a GPU's name, or `"cpu"`.
        threads (`int`): threads of one operation.
        versions (`dict[str, str]`): of Python and of the libraries timed, where installed.
    """

    cpu: str
    cpu_flags: tuple[str, ...]
    device: str
    threads: int
    versions: dict[str, str]


def _cpu_info() -> tuple[str, tuple[str, ...]]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE)
    known = set(flags.group(1).split()) if flags else set()
    return (
        name.group(1) if name else platform.processor() or platform.machine(),
        tuple(flag for flag in _CPU_FLAGS if flag in known),
    )


def describe_machine(device: torch.device, packages: Iterable[str] = LIBRARIES) -> Machine:
    """The machine at hand, with the versions of `packages`."""
    cpu, flags = _cpu_info()
    return Machine(
        cpu=cpu,
        cpu_flags=flags,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version(), **installed_versions(packages)},
    )
