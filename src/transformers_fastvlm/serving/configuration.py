# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""One server: the options of `fastvlm serve`. Imports nothing that takes time, so that help comes at once."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from ..inference.model_options import ModelOptions, RunOptions

ENGINES = ("transformers", "vllm")
# Options that vLLM has no counterpart of.
TRANSFORMERS_ALONE = ("max_waiting", "max_new_tokens", "timeout", "stop_timeout", "max_body", "max_pixels")


@dataclass(frozen=True)
class ServingConfig:
    """
    One server.

    Args:
        model: How the checkpoint is loaded.
        run: Where it answers, and how fast.
        engine: transformers, or vllm, which takes an environment of its own.
        tensor_parallel: With vllm: GPUs, or on CPUs processes, that share the decoder's weights.
        name: What requests call the model, besides what `--model` says. [default: the last part of that]
        adapters: NAME=FOLDER: a PEFT adapter, and what requests that want it say as their model; several may be given.
        host: Address to listen at; 0.0.0.0 is every one of this machine.
        port: To listen at; 0 takes one that is free.
        api_key: What clients must send as their key. [default: FASTVLM_API_KEY of the environment, else none]
        batch_size: Answers that are decoded together, at most.
        max_waiting: Requests that may wait; further ones get status 429.
        max_new_tokens: Tokens of an answer, where a request does not say.
        timeout: Seconds that a request may take, waiting included.
        stop_timeout: Seconds that running answers are given when the server is told to stop.
        max_body: MiB of a request, at most.
        max_pixels: Million pixels of all images of a request together, at most.
        max_images: Images of a request, at most.
        allow_local_paths: Folder whose images requests may name by path; several may be given.
        allow_urls: Beginning of the addresses whose images requests may name, such as https://images.example.com/;
            several may be given. Private and link-local addresses are refused all the same.

    Raises:
        ValueError: if a number is out of range, an adapter has no name, a folder, device or address is not usable, or
            an option is one of the other engine's.
    """

    model: ModelOptions = field(metadata={"option": False})
    run: RunOptions = field(default=RunOptions(), metadata={"option": False})
    engine: str = "transformers"
    tensor_parallel: int = field(default=1, metadata={"min": 1})
    name: str | None = None
    adapters: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = field(default=8000, metadata={"min": 0})
    api_key: str | None = None
    batch_size: int = field(default=8, metadata={"min": 1})
    max_waiting: int = field(default=64, metadata={"min": 0})
    max_new_tokens: int = field(default=512, metadata={"min": 1})
    timeout: float = 300.0
    stop_timeout: float = 30.0
    max_body: float = 32.0
    max_pixels: float = 100.0
    max_images: int = field(default=16, metadata={"min": 1})
    allow_local_paths: tuple[Path, ...] = ()
    allow_urls: tuple[str, ...] = ()

    def __post_init__(self):
        self._check_numbers()
        self._check_engine()
        names = list(self.adapters_by_name)
        if len(names) < len(self.adapters) or set(names) & set(self.model_names):
            raise ValueError("Every model and adapter needs a name of its own.")
        if self.adapters and self.run.optimize:
            raise ValueError("`optimize` is for a model without adapters: merge the one you want into it first.")
        for folder in self.allow_local_paths:
            if not Path(folder).is_dir():
                raise ValueError(f"--allow-local-path: there is no folder {folder}.")
        for address in self.allow_urls:
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path:
                raise ValueError(f"--allow-url: {address!r} is not like https://images.example.com/.")

    def _check_engine(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"Unknown engine {self.engine!r}; known are {', '.join(ENGINES)}.")
        if self.engine == "transformers":
            if self.tensor_parallel != 1:
                raise ValueError("--tensor-parallel is for the engine vllm.")
            return
        if self.run != RunOptions():
            raise ValueError("--device and --optimize are for the engine transformers: vLLM chooses by itself.")
        if len(self.allow_local_paths) > 1:
            raise ValueError("vLLM reads images from one folder: give --allow-local-path once.")
        for each in fields(self):
            if each.name in TRANSFORMERS_ALONE and getattr(self, each.name) != each.default:
                raise ValueError(f"--{each.name.replace('_', '-')} is for the engine transformers.")

    def _check_numbers(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"`port` is from 0 to 65535, not {self.port}.")
        if self.max_waiting < 0:
            raise ValueError(f"`max_waiting` must be at least 0, not {self.max_waiting}.")
        for name in ("batch_size", "max_new_tokens", "max_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, not {getattr(self, name)}.")
        for name in ("timeout", "stop_timeout", "max_body", "max_pixels"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be above 0, not {getattr(self, name)}.")

    @property
    def model_names(self) -> tuple[str, ...]:
        """What requests may call the model; the first is what answers call it."""
        whole = str(self.model.pretrained)
        last = Path(whole).resolve().name if Path(whole).is_dir() else whole.rsplit("/", 1)[-1]
        return tuple(dict.fromkeys((self.name or last, last, whole)))

    @property
    def adapters_by_name(self) -> dict[str, str]:
        """Folders or Hub ids of the adapters."""
        named = {}
        for each in self.adapters:
            name, mark, source = each.partition("=")
            if not (name and mark and source):
                raise ValueError(f"--adapter: {each!r} is not NAME=FOLDER.")
            named[name] = source
        return named
