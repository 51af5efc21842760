"""GGUF files, as llama.cpp's tools and ComfyUI-GGUF write them: official names, blocks of few bits per weight.

Read through the `gguf` package (the extra of that name); weights of few bits become bfloat16, or FP8 where that is
asked for, a few rows at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hunyuan_video.checkpoints.safetensors_file import TensorInfo
from hunyuan_video.errors import UserError

_WIDE = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16}  # others become bfloat16
_ROWS = 1 << 24  # bytes of float32 that are unpacked at once


class GGUFFile:
    """Reader of one file with the interface of `SafetensorsFile`. UserError for one that cannot be read."""

    def __init__(self, path: Path):
        try:
            from gguf import GGUFReader
        except ImportError as error:
            raise UserError(f"{path} needs the gguf package: pip install 'hunyuan-ext[gguf]'") from error
        self.path = path
        self.metadata: dict[str, str] = {}
        try:
            self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise UserError(f"{path} is no whole GGUF file ({error}); copy or download it again") from error
        self.infos = {
            name: TensorInfo(
                tuple(int(size) for size in reversed(tensor.shape)),
                _WIDE.get(tensor.tensor_type.name, torch.bfloat16),
            )
            for name, tensor in self._tensors.items()
        }

    def origin(self, name: str) -> Path:
        """The file a tensor comes from, for error messages."""
        return self.path

    def read_into(
        self,
        out: Tensor,  # the shape of what is read; any dtype or device
        name: str,
        rows: tuple[int, int] | None = None,
    ) -> None:
        """Unpacks tensor `name`, or its rows [first, last), into `out`, converting dtype and device."""
        tensor, info = self._tensors[name], self.infos[name]
        first, last = rows or (0, info.shape[0] if info.shape else 1)
        shape = (last - first, *info.shape[1:]) if info.shape else ()
        target = out.view(shape)
        if len(shape) < 2:
            target.copy_(self._unpacked(tensor, tensor.data[first:last]).view(shape))
            return
        step = max(1, _ROWS // max(1, 4 * info.count // info.shape[0]))
        for start in range(first, last, step):
            stop = min(start + step, last)
            part = self._unpacked(tensor, tensor.data[start:stop])
            target[start - first : stop - first].copy_(part.view(stop - start, *shape[1:]))

    def _unpacked(self, tensor: Any, data: Any) -> Tensor:
        """float32 values of rows as the file has them."""
        import numpy as np
        from gguf.quants import dequantize

        try:
            return torch.from_numpy(np.array(dequantize(np.ascontiguousarray(data), tensor.tensor_type), np.float32))
        except NotImplementedError as error:
            kind = tensor.tensor_type.name
            raise UserError(f"{self.path}: '{tensor.name}' is of type {kind}, which gguf cannot unpack") from error
