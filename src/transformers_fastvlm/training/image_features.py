# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What a frozen encoder makes of images, kept on disk: each image is encoded once, however often it is trained on."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..inference.fingerprints import fingerprint
from ..modeling_fastvithd import FastViTHDModel
from ..processing_fastvlm import FastVLMProcessor
from .processes import process_state
from .row_images import ImageAccess, image_digest, read_row_image
from .rows import RowFormat, read_messages

GIGABYTES = 50.0
_TENSOR = "features"
_SUFFIX = ".safetensors"
_PARTIAL = ".partial-"
_CROPS_AT_ONCE = 8
_ABANDONED = 3600  # seconds after which no process still writes to such a file


class _Place(NamedTuple):
    """Where an image is: which row, and which of its images. Rows may hold more than memory does."""

    row: int
    image: int


class ImageFeatures:
    """
    Feature maps of images, `(crops, channels, R / stride, R / stride)` in the encoder's dtype, one file per image.

    Files are named by the image's content, in a folder that is named by all that the features depend on besides: the
    encoder's weights and settings, the dtype, and the image processor's settings, the resolution among them. What has
    changed is encoded anew. Files are there whole or not at all, so that several processes and runs may share them.

    Args:
        folder: for the features of any encoders.
        encoder: in the form and dtype that it trains beside; must not train itself.
        processor: the model's.
        gigabytes: that the folder may grow to; what was not used for longest makes room.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        encoder: FastViTHDModel,
        processor: FastVLMProcessor,
        gigabytes: float = GIGABYTES,
    ):
        settings = [encoder.config.to_dict(), str(encoder.dtype), processor.image_processor.to_dict()]
        self.root = Path(folder)
        self.folder = self.root / fingerprint(settings, encoder)
        self.processor = processor
        self.limit = int(gigabytes * 1e9)

    def read(self, value: Any, root: str | None, access: ImageAccess) -> torch.Tensor:
        """
        The features of an image, `(crops, channels, height, width)`.

        Args:
            value, root, access: as of `read_row_image`.

        Raises:
            RowError: if the image is none, or may not be read.
            FileNotFoundError: if it was not encoded before, or its file is gone.
        """
        path = self._path(image_digest(value, root, access))
        try:
            return load_file(path)[_TENSOR]
        except (OSError, SafetensorError) as error:
            raise FileNotFoundError(
                f"The features of an image are not in {self.root} any more: has another run with a smaller "
                "--cache_gigabytes removed them? `--resume` encodes them again."
            ) from error

    def fill(self, rows: Sequence[Mapping[str, Any]], encoder: FastViTHDModel, row_format: RowFormat) -> int:
        """
        Encode the images of rows that were not before. For all processes of a run to call: each does its share.

        Args:
            rows: that can be trained on.
            encoder: the one that the features are of.
            row_format: how rows are read.

        Returns:
            how many were encoded, by all processes together.

        Raises:
            OSError: if the images do not fit into the folder's limit, before any is encoded where that can be told; or
                if it cannot be written to.
        """
        from accelerate.utils import gather_object
        from tqdm.auto import tqdm

        state = process_state()
        share = range(state.process_index, len(rows), state.num_processes)
        found = {digest: place for index in share for digest, place in self._places(rows[index], index, row_format)}
        places = {digest: place for each in gather_object([found]) for digest, place in each.items()}
        missing = sorted(places.keys() - {path.stem for path in self.folder.glob(f"*{_SUFFIX}")})
        if state.is_main_process:
            for digest in places.keys() - set(missing):
                self._path(digest).touch()  # used now
            self._make_room(places.keys(), self._least_bytes(encoder) * len(places), len(places))
        state.wait_for_everyone()
        mine = missing[state.process_index :: state.num_processes]
        starts = range(0, len(mine), _CROPS_AT_ONCE)
        for start in tqdm(starts, desc="encoding images", disable=not (mine and state.is_local_main_process)):
            chosen = {digest: places[digest] for digest in mine[start : start + _CROPS_AT_ONCE]}
            self._encode(chosen, rows, encoder, row_format)
        count = sum(gather_object([len(mine)]))  # and nobody reads before all have written
        if state.is_main_process:
            self._make_room(places.keys(), 0, len(places))
        return count

    def _places(self, row: Mapping[str, Any], index: int, row_format: RowFormat) -> Iterator[tuple[str, _Place]]:
        found = read_messages(row, row_format, self.processor.image_token)
        for image, value in enumerate(found.images):
            yield image_digest(value, found.root, row_format.access), _Place(index, image)

    @torch.no_grad()
    def _encode(
        self,
        images: dict[str, _Place],
        rows: Sequence[Mapping[str, Any]],
        encoder: FastViTHDModel,
        row_format: RowFormat,
    ) -> None:
        pixels = []  # (crops, 3, R, R) each
        for place in images.values():
            found = read_messages(rows[place.row], row_format, self.processor.image_token)
            image = read_row_image(found.images[place.image], place.image, found.root, row_format.access)
            pixels.append(self.processor.image_processor([image], return_tensors="pt")["pixel_values"])
        training = encoder.training
        encoder.eval()
        crops = torch.cat(pixels).to(encoder.device)
        maps = torch.cat([encoder(part).last_hidden_state.cpu() for part in crops.split(_CROPS_AT_ONCE)])
        encoder.train(training)
        for digest, features in zip(images, maps.split([len(each) for each in pixels])):
            self._write(digest, features)

    def _write(self, digest: str, features: torch.Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=_PARTIAL, dir=self.folder)
        os.close(handle)
        try:
            save_file({_TENSOR: features.contiguous()}, part)
            os.replace(part, self._path(digest))
        finally:
            Path(part).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_SUFFIX}"

    def _least_bytes(self, encoder: FastViTHDModel) -> int:
        """Of an image's features, if it is one crop."""
        side = self.processor.image_processor.get_resolution() // encoder.config.stride
        return encoder.config.hidden_size * side**2 * encoder.dtype.itemsize

    def _make_room(self, used: Iterable[str], least: int, count: int) -> None:
        """Remove what was not used for longest, and is not used now, until the limit is kept."""
        if least > self.limit:
            raise OSError(
                f"The features of {count} images take {least / 1e9:.1f} GB or more, and may take "
                f"{self.limit / 1e9:.1f} GB. Allow more with --cache_gigabytes, or leave out --cache_features."
            )
        self._remove_abandoned()
        kept = {self._path(digest) for digest in used}
        files = list(_files(self.root))
        present = sum(each.size for each in files if each.path in kept)
        total = sum(each.size for each in files) + max(least - present, 0)
        for each in sorted(files, key=lambda file: file.used):
            if total > self.limit and each.path not in kept:
                each.path.unlink(missing_ok=True)
                total -= each.size
        if total > self.limit:
            raise OSError(
                f"The features of {count} images take {total / 1e9:.1f} GB, and may take {self.limit / 1e9:.1f} GB: "
                "allow more with --cache_gigabytes."
            )

    def _remove_abandoned(self) -> None:
        for partial in self.root.glob(f"*/{_PARTIAL}*"):
            with suppress(FileNotFoundError):  # its process was faster
                if time.time() - partial.stat().st_mtime > _ABANDONED:
                    partial.unlink()


class _File(NamedTuple):
    path: Path
    used: float
    size: int


def _files(root: Path) -> Iterator[_File]:
    for path in root.glob(f"*/*{_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process was faster
            stat = path.stat()
            yield _File(path, stat.st_mtime, stat.st_size)
