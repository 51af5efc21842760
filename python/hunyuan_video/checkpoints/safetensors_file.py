"""safetensors files, read and written one tensor (or some of its rows) at a time.

The format is 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}} and the bytes of the tensors.
Reading it here instead of through a memory map lets a row range go from the disk straight into the parameter's own
memory, which is what bounds the memory of loading; and lets a damaged file fail with its name, before any allocation.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hunyuan_video.errors import UserError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MAX_HEADER = 100_000_000  # the limit of the format
_SCRATCH = 1 << 20  # bytes
_DOWNLOAD_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of a stored tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


class SafetensorsFile:
    """Reader of one file. The header is checked completely on opening; UserError names the file and what is wrong.

    infos: {name: TensorInfo}. metadata: the header's {str: str}.
    """

    def __init__(self, path: Path):
        self.path = path
        header, self._start, size = _read_header(path)
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        if not isinstance(self.metadata, dict):
            raise UserError(f"{path} is corrupt: its metadata is not a table; {_DOWNLOAD_AGAIN}")
        self.infos: dict[str, TensorInfo] = {}
        self._offsets: dict[str, int] = {}
        for name, entry in header.items():
            self.infos[name], self._offsets[name] = _parse_entry(path, name, entry)
        self._check_layout(size - self._start)

    def _check_layout(self, available: int) -> None:
        """The tensors must tile the data exactly: a gap or overlap means a damaged header, too few bytes a cut file."""
        end = 0
        for name in sorted(self._offsets, key=lambda key: (self._offsets[key], self.infos[key].nbytes)):
            if self._offsets[name] != end:
                raise UserError(
                    f"{self.path} is corrupt: tensor '{name}' starts at byte {self._offsets[name]} of the data, "
                    f"expected {end}; {_DOWNLOAD_AGAIN}"
                )
            end += self.infos[name].nbytes
        if end != available:
            problem = "truncated" if available < end else "corrupt"
            raise UserError(
                f"{self.path} is {problem}: its header describes {end} bytes of tensors, the file holds {available}; "
                f"{_DOWNLOAD_AGAIN}"
            )

    def origin(self, name: str) -> Path:
        """The file a tensor comes from, for error messages."""
        return self.path

    def read_into(
        self,
        out: Tensor,  # the shape of what is read; any dtype or device
        name: str,
        rows: tuple[int, int] | None = None,
    ) -> None:
        """Reads tensor `name`, or its rows [first, last), into `out`, converting dtype and device where they differ."""
        info = self.infos[name]
        offset, shape = self._start + self._offsets[name], info.shape
        if rows is not None:
            offset += rows[0] * (info.nbytes // shape[0])
            shape = (rows[1] - rows[0], *shape[1:])
        out = out.view(shape)
        with self.path.open("rb") as file:
            file.seek(offset)
            if out.device.type == "cpu" and out.dtype == info.dtype and out.is_contiguous():
                self._read(file, name, out)
                return
            for block in out.split(_block_rows(shape, info), dim=0) if shape else (out,):
                scratch = torch.empty(block.shape, dtype=info.dtype, device="cpu")
                self._read(file, name, scratch)
                block.copy_(scratch)

    def _read(self, file: io.BufferedReader, name: str, target: Tensor) -> None:
        buffer = as_bytes(target)
        if file.readinto(buffer) != len(buffer):
            raise UserError(f"{self.path} ended inside tensor '{name}' while it was read; {_DOWNLOAD_AGAIN}")


def _block_rows(shape: tuple[int, ...], info: TensorInfo) -> int:
    """Number of rows that make a scratch buffer of at most 1 MiB; small, so that it leaves no holes in the heap."""
    return max(1, _SCRATCH // max(1, math.prod(shape[1:]) * info.dtype.itemsize))


def write_safetensors(
    file: BinaryIO,
    infos: Mapping[str, TensorInfo],
    produce: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a file whose tensors `produce(name)` makes one after the other, so only one has to exist at a time.

    Order and padding follow the safetensors library: wide dtypes first and an 8-byte aligned header, so that every
    tensor is aligned when another reader maps the file.
    """
    names = sorted(infos, key=lambda name: (-infos[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name in names:
        begin, end = end, end + infos[name].nbytes
        info = infos[name]
        header[name] = {"dtype": _NAMES[info.dtype], "shape": list(info.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        tensor = produce(name).detach().to("cpu").contiguous()
        if tensor.shape != infos[name].shape or tensor.dtype != infos[name].dtype:
            raise ValueError(f"tensor '{name}' was announced as {infos[name]}, got {tensor.dtype} {list(tensor.shape)}")
        file.write(as_bytes(tensor))


def as_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, shared with it."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """-> header, offset of the tensor bytes, file size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if prefix == b"version ":
                raise UserError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` there")
            if len(prefix) < 8:
                raise UserError(f"{path} is truncated: {size} bytes, not even a header; {_DOWNLOAD_AGAIN}")
            if length > _MAX_HEADER:
                raise UserError(f"{path} is not a safetensors file (it announces a header of {length} bytes)")
            if length > size - 8:
                raise UserError(
                    f"{path} is truncated: a header of {length} bytes was announced, {size - 8} bytes follow; "
                    f"{_DOWNLOAD_AGAIN}"
                )
            header = json.loads(file.read(length))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # not JSON, not UTF-8
        raise UserError(f"{path} is corrupt: its header is not JSON; {_DOWNLOAD_AGAIN}") from error
    if not isinstance(header, dict):
        raise UserError(f"{path} is corrupt: its header is not a table of tensors; {_DOWNLOAD_AGAIN}")
    return header, 8 + length, size


def _parse_entry(path: Path, name: str, entry: Any) -> tuple[TensorInfo, int]:
    try:
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        code = entry["dtype"]
        if not _all_counts((*shape, begin, end)):
            raise ValueError("sizes and offsets are counts")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is corrupt: the header entry of tensor '{name}' is damaged; {_DOWNLOAD_AGAIN}"
        ) from error
    if not isinstance(code, str) or code not in _DTYPES:
        raise UserError(
            f"{path}: tensor '{name}' has dtype {code}, which is not supported; known: {', '.join(_DTYPES)}"
        )
    info = TensorInfo(shape, _DTYPES[code])
    if end - begin != info.nbytes:
        raise UserError(
            f"{path} is corrupt: tensor '{name}' of shape {list(shape)} needs {info.nbytes} bytes, its header entry "
            f"gives {end - begin}; {_DOWNLOAD_AGAIN}"
        )
    return info, begin


def _all_counts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values)
