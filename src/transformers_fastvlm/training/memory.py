# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What to do when memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_CPU_MESSAGE = "can't allocate memory"


@contextmanager
def explained_out_of_memory(
    batch_size: int, resolution: int, gradient_checkpointing: bool, bits: int
) -> Iterator[None]:
    """
    Raise running out of memory as a `MemoryError` that names what needs less of it, as far as that is not in use yet.

    Args:
        batch_size: examples per device and step.
        resolution: side of the images in pixels; memory for activations grows with its square.
        gradient_checkpointing: whether it is on.
        bits: per weight of the decoder: 32, 16, 8 or 4.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # The allocator for CPUs has no exception of its own.
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and _CPU_MESSAGE not in str(error):
            raise
        ways = [f"a smaller image than {resolution}x{resolution}"]
        if batch_size > 1:
            ways.insert(0, f"a batch size below {batch_size}, with gradient accumulation instead")
        if not gradient_checkpointing:
            ways.append("gradient checkpointing")
        if bits > 4:
            ways.append("4-bit weights")
        raise MemoryError(f"Memory ran out. Less is needed with {', '.join(ways)}.") from error
