"""Storage of the exact VAE's whole activations between layers: in memory, or in an unlinked temporary file.

A store holds one activation as [T, H, W, C]: frames, rows, columns, channels. A slab of whole frames is contiguous, and
transposed to [1, C, t, h, W] it is in channels_last_3d format, in which the convolutions are fastest. The file is read
and written explicitly rather than mapped, because mapped pages count as resident memory of the process.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

Shape = tuple[int, int, int, int]  # T, H, W, C


class Store(Protocol):
    """One activation, read and written in slabs: frames [t0, t1) and rows [h0, h1), all columns and channels."""

    shape: Shape

    def read(self, t0: int, t1: int, h0: int, h1: int) -> Tensor: ...  # [t1 - t0, h1 - h0, W, C]

    def write(self, t0: int, h0: int, slab: Tensor) -> None: ...  # slab: [t, h, W, C]

    def view(self, t0: int, t1: int) -> Tensor | None: ...  # [t1 - t0, H, W, C]: its own contiguous memory, if it has


class TensorStore:
    """A store in memory; the tensor may be a view of the model's input or output, or live on another device."""

    def __init__(self, tensor: Tensor, device: torch.device):  # tensor: [T, H, W, C]; device: where slabs are wanted
        self.tensor, self.device = tensor, device
        frames, rows, columns, channels = tensor.shape
        self.shape: Shape = (frames, rows, columns, channels)

    def read(self, t0: int, t1: int, h0: int, h1: int) -> Tensor:
        return self.tensor[t0:t1, h0:h1].to(self.device)

    def write(self, t0: int, h0: int, slab: Tensor) -> None:
        self.tensor[t0 : t0 + slab.shape[0], h0 : h0 + slab.shape[1]] = slab

    def view(self, t0: int, t1: int) -> Tensor | None:
        usable = self.tensor.is_contiguous() and self.tensor.device == self.device
        return self.tensor[t0:t1] if usable else None


class PartStore:
    """Frames of an activation from `first` on, as many as `inner` has; `frames`: of the whole."""

    def __init__(self, inner: Store, first: int, frames: int):
        self.inner, self.first = inner, first
        self.shape: Shape = (frames, *inner.shape[1:])

    def read(self, t0: int, t1: int, h0: int, h1: int) -> Tensor:
        return self.inner.read(t0 - self.first, t1 - self.first, h0, h1)

    def write(self, t0: int, h0: int, slab: Tensor) -> None:
        self.inner.write(t0 - self.first, h0, slab)

    def view(self, t0: int, t1: int) -> Tensor | None:
        return self.inner.view(t0 - self.first, t1 - self.first)


class FileStore:
    """A store in a temporary file (folder: TMPDIR, which must not be a memory file system), gone when closed."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device):
        self.shape, self.dtype, self.device = shape, dtype, device
        needed, folder = store_bytes(shape, dtype), tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(
                f"the VAE needs {needed / 1e9:.1f} GB of disk in {folder} for an activation beyond memory_budget, but "
                f"{free / 1e9:.1f} GB are free; set TMPDIR to a larger disk or raise memory_budget"
            )
        self._file = tempfile.TemporaryFile(prefix="hunyuan_vae_")

    def read(self, t0: int, t1: int, h0: int, h1: int) -> Tensor:
        slab = torch.empty((t1 - t0, h1 - h0, *self.shape[2:]), dtype=self.dtype, device="cpu")
        for chunk, offset in self._chunks(slab, t0, h0):
            self._file.seek(offset)
            if self._file.readinto(chunk) != len(chunk):
                raise OSError(f"frames {t0} to {t1} of a spilled VAE activation could not be read back")
        return slab.to(self.device)

    def write(self, t0: int, h0: int, slab: Tensor) -> None:
        for chunk, offset in self._chunks(slab.to(device="cpu", dtype=self.dtype).contiguous(), t0, h0):
            self._file.seek(offset)
            self._file.write(chunk)

    def view(self, t0: int, t1: int) -> None:
        return None

    def _chunks(self, slab: Tensor, t0: int, h0: int) -> Iterator[tuple[memoryview, int]]:
        """(bytes, file offset) of the contiguous runs of a slab: one for whole frames, else one per frame."""
        row = self.shape[2] * self.shape[3] * slab.element_size()
        frames, rows = slab.shape[:2]
        data = slab.view(torch.uint8).numpy().data.cast("B")
        runs, length = (1, frames * rows * row) if rows == self.shape[1] else (frames, rows * row)
        for run in range(runs):
            yield data[run * length : (run + 1) * length], ((t0 + run) * self.shape[1] + h0) * row

    def __del__(self):
        if hasattr(self, "_file"):
            self._file.close()


def store_bytes(shape: Shape, dtype: torch.dtype) -> int:
    frames, rows, columns, channels = shape
    return frames * rows * columns * channels * dtype.itemsize
