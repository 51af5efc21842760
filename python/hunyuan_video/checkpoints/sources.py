"""Sources of tensors: a common interface over files, modules and renamed or re-cut views of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hunyuan_video.checkpoints.safetensors_file import SafetensorsFile, TensorInfo
from hunyuan_video.errors import UserError


class TensorSource(Protocol):
    """Named tensors that are read one at a time."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Shape and dtype of every tensor."""

    def read_into(self, out: Tensor, name: str, rows: tuple[int, int] | None = None) -> None:
        """Reads tensor `name`, or its rows [first, last), into `out`, converting dtype and device."""

    def origin(self, name: str) -> Path | str:
        """Name of the tensor's source for error messages."""


class StateSource:
    """Tensors already in memory: a module's `state_dict()`."""

    def __init__(self, tensors: Mapping[str, Tensor], label: str = "the model"):
        self.tensors, self.label = tensors, label
        self.infos = {name: TensorInfo(tuple(t.shape), t.dtype) for name, t in tensors.items()}

    def read_into(self, out: Tensor, name: str, rows: tuple[int, int] | None = None) -> None:
        tensor = self.tensors[name].detach()
        out.copy_((tensor if rows is None else tensor[rows[0] : rows[1]]).reshape(out.shape))

    def origin(self, name: str) -> str:
        return self.label


class ShardedSource:
    """Several safetensors files read as one; `parts` maps each tensor to its file."""

    def __init__(self, parts: Mapping[str, SafetensorsFile]):
        self.parts = parts
        self.infos = {name: part.infos[name] for name, part in parts.items()}

    def read_into(self, out: Tensor, name: str, rows: tuple[int, int] | None = None) -> None:
        self.parts[name].read_into(out, name, rows)

    def origin(self, name: str) -> Path:
        return self.parts[name].path


@dataclass(frozen=True)
class Piece:
    """Part of a tensor: `key` of the source, whole or its rows [first, last).

    repeat > 0: the source holds a single value that stands for that many rows (a per-tensor FP8 scale). matrix: the
    source holds a 1 x 1 x 1 convolution in the place of a linear, of which the trailing ones are dropped.
    """

    key: str
    rows: tuple[int, int] | None = None
    repeat: int = 0
    matrix: bool = False


class MappedSource:
    """A view of another source under other names, each tensor put together from pieces along its first dimension."""

    def __init__(self, source: TensorSource, pieces: Mapping[str, Sequence[Piece]]):
        self.source, self.pieces = source, pieces
        self.infos = {name: self._info(parts) for name, parts in pieces.items()}

    def _info(self, parts: Sequence[Piece]) -> TensorInfo:
        first = self.source.infos[parts[0].key]
        if parts[0].matrix and math.prod(first.shape[2:]) == 1:
            return TensorInfo(first.shape[:2], first.dtype)
        if len(parts) == 1 and parts[0].rows is None and not parts[0].repeat:
            return first
        for part in parts[1:]:
            other = self.source.infos[part.key]
            if other.dtype != first.dtype or (not part.repeat and other.shape[1:] != first.shape[1:]):
                raise UserError(
                    f"{self.source.origin(part.key)}: key '{part.key}' ({other}) does not fit '{parts[0].key}' "
                    f"({first}), with which it makes one tensor; the file is damaged or of another model"
                )
        tail = (1,) if parts[0].repeat else first.shape[1:]
        return TensorInfo((sum(self._rows(part) for part in parts), *tail), first.dtype)

    def _rows(self, piece: Piece) -> int:
        if piece.repeat:
            return piece.repeat
        return self.source.infos[piece.key].shape[0] if piece.rows is None else piece.rows[1] - piece.rows[0]

    def read_into(self, out: Tensor, name: str, rows: tuple[int, int] | None = None) -> None:
        parts = self.pieces[name]
        if len(parts) == 1 and parts[0].rows is None and not parts[0].repeat:
            self.source.read_into(out, parts[0].key, rows)
            return
        first, last = rows or (0, self.infos[name].shape[0])
        begin = 0  # of the piece, in rows of the whole tensor
        for part in parts:
            end = begin + self._rows(part)
            low, high = max(first, begin), min(last, end)
            if low < high:
                self._read_piece(out[low - first : high - first], part, low - begin, high - begin)
            begin = end

    def _read_piece(self, out: Tensor, piece: Piece, low: int, high: int) -> None:
        if piece.repeat:
            value = torch.empty(1, dtype=out.dtype, device="cpu")
            self.source.read_into(value, piece.key)
            out.fill_(value.item())
        else:
            offset = piece.rows[0] if piece.rows else 0
            self.source.read_into(out, piece.key, (offset + low, offset + high))

    def origin(self, name: str) -> Path | str:
        return self.source.origin(self.pieces[name][0].key)


def read(source: TensorSource, name: str, dtype: torch.dtype | None = None) -> Tensor:
    """One tensor of a source, on the CPU."""
    info = source.infos[name]
    out = torch.empty(info.shape, dtype=dtype or info.dtype, device="cpu")
    source.read_into(out, name)
    return out
