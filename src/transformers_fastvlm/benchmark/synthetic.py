# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Random weights, pixels and photographs, the same at every call, in place of a checkpoint's and a user's."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, PretrainedConfig


def random_model(config: PretrainedConfig, dtype: torch.dtype, auto_class: Any = AutoModel) -> Any:
    """A model with random weights, the same at every call, in eval mode, else with the defaults of its class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return auto_class.from_config(config, dtype=dtype).eval()


def random_pixels(batch_size: int, resolution: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`(batch, 3, resolution, resolution)` pixels in 0..1, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch_size, 3, resolution, resolution, generator=generator).to(device, dtype)


def write_photograph(folder: Path, width: int, height: int) -> Path:
    """A JPEG file with the statistics of a photograph (energy falling with frequency), the same at every call."""
    random = np.random.RandomState(0)
    pixels = np.zeros((height, width, 3), np.float32)
    for side in (4, 16, 64, 256):
        noise = random.uniform(0, 255, (side, side, 3)).astype(np.uint8)
        pixels += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    path = folder / f"photograph-{width}x{height}.jpg"
    Image.fromarray((pixels / 4).astype(np.uint8)).save(path, quality=90)
    return path
