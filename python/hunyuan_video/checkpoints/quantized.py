"""Weights of one byte made while they are read: a source whose chosen linears are FP8 or int8, a scale for each row.

The one converter: `convert --dtype fp8` writes such a source, `from_pretrained(quantize=...)` fills a model from it.
Rows are read, quantized and handed on a few at a time, so that memory never holds a wide tensor beside its codes.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_video.checkpoints.fp8 import block_linears
from hunyuan_video.checkpoints.keys import SCALE
from hunyuan_video.checkpoints.safetensors_file import TensorInfo
from hunyuan_video.checkpoints.sources import TensorSource
from hunyuan_video.checkpoints.validate import quantized_modules
from hunyuan_video.errors import UserError

# Read once a run, and felt by every token: they stay as they are, unless all of the blocks is asked for.
MODULATIONS = ("*_mod.linear", "*.modulation.linear")
_ROWS = 1 << 22  # bytes of wide rows that are quantized at once; about six times as much is in use for it


@dataclass(frozen=True)
class Kind:
    """A type of one byte: its dtype, and weights [N, K] -> codes [N, K] and scales [N, 1]."""

    dtype: torch.dtype
    quantize: Callable[[Tensor], tuple[Tensor, Tensor]]


KINDS = {"fp8": Kind(torch.float8_e4m3fn, ops.quantize_fp8), "int8": Kind(torch.int8, ops.quantize_int8)}


@dataclass
class LayerError:
    """Sums over a layer's weights: of their squares, and of the squares of what quantization changed."""

    shape: tuple[int, ...]
    squares: float = 0.0
    changes: float = 0.0

    @property
    def relative(self) -> float:
        """Root mean square of the changes as a part of that of the weights."""
        return math.sqrt(self.changes / self.squares) if self.squares else 0.0


class QuantizedSource:
    """A view of a source with official names in which the weights of some modules are codes beside their scales.

    paths: of linears with wide weights. kind: a name in `KINDS`. device: where rows are quantized. errors: of the
    weights that have been read so far, by module.
    """

    def __init__(self, source: TensorSource, paths: Iterable[str], kind: str, device: torch.device | str = "cpu"):
        self.source, self.kind, self.device = source, KINDS[kind], torch.device(device)
        self.weights = {f"{path}.weight": path for path in paths}
        self.scales = {f"{path}.{SCALE}": f"{path}.weight" for path in self.weights.values()}
        self.errors: dict[str, LayerError] = {}
        self.infos: dict[str, TensorInfo] = {}
        for name, info in source.infos.items():
            self.infos[name] = TensorInfo(info.shape, self.kind.dtype) if name in self.weights else info
            if name in self.weights:
                self.infos[f"{self.weights[name]}.{SCALE}"] = TensorInfo((info.shape[0], 1), torch.float32)

    def read_into(self, out: Tensor, name: str, rows: tuple[int, int] | None = None) -> None:
        """Reads or makes tensor `name`, or its rows [first, last), converting dtype and device."""
        if name not in self.weights and name not in self.scales:
            self.source.read_into(out, name, rows)
            return
        weight = self.scales.get(name, name)
        first = rows[0] if rows else 0
        for start, stop, wide in self._wide(weight, rows):
            codes, scale = self.kind.quantize(wide)
            out[start - first : stop - first].copy_(scale if name in self.scales else codes)
            if name in self.weights:
                self._note(self.weights[name], wide, codes, scale)

    def _wide(self, name: str, rows: tuple[int, int] | None) -> Iterator[tuple[int, int, Tensor]]:
        """(first row, last row + 1, those rows) of a weight, a few at a time."""
        info = self.source.infos[name]
        first, last = rows or (0, info.shape[0])
        step = max(1, _ROWS // max(1, info.shape[1] * info.dtype.itemsize))
        for start in range(first, last, step):
            stop = min(start + step, last)
            wide = torch.empty((stop - start, info.shape[1]), dtype=info.dtype, device="cpu")
            self.source.read_into(wide, name, (start, stop))
            if not wide.isfinite().all():
                raise UserError(f"{self.origin(name)}: '{name}' holds NaN or infinity; copy or download it again")
            yield start, stop, wide.to(self.device)

    def _note(self, path: str, wide: Tensor, codes: Tensor, scale: Tensor) -> None:
        error = self.errors.setdefault(path, LayerError(self.source.infos[f"{path}.weight"].shape))
        exact = wide.float()
        error.squares += float(exact.square().sum(dtype=torch.float64))
        error.changes += float((codes.float() * scale - exact).square_().sum(dtype=torch.float64))

    def origin(self, name: str) -> Path | str:
        return self.source.origin(self.scales.get(name, name))


def chosen_linears(model: nn.Module, source: TensorSource, keep: Sequence[str] = MODULATIONS) -> list[str]:
    """Paths of the linears to quantize: those of the blocks but for names like `keep` and what has codes already.

    model: on any device. Embedders, token refiner and final layer are no blocks. UserError for a pattern that names
    no linear of the blocks, or where nothing is left.
    """
    blocks, stored = block_linears(model), set(quantized_modules(source))
    for pattern in keep:
        if blocks and not fnmatch.filter(blocks, pattern):
            raise UserError(f"no linear of the blocks is named like {pattern!r}; they are named like {blocks[0]}")
    return [path for path in blocks if path not in stored and not any(fnmatch.fnmatchcase(path, name) for name in keep)]


def error_table(errors: dict[str, LayerError]) -> list[str]:
    """Lines of a table: each layer's shape and error, and the error over all of them."""
    if not errors:
        return []
    width = max(map(len, errors))
    lines = [f"{'layer':{width}}  {'shape':>12}  error"]
    for path, error in errors.items():
        lines.append(f"{path:{width}}  {'x'.join(map(str, error.shape)):>12}  {error.relative:.3%}")
    squares, changes = (sum(getattr(error, name) for error in errors.values()) for name in ("squares", "changes"))
    whole = LayerError((), squares, changes)
    return [*lines, f"{len(errors)} layers, error {whole.relative:.3%} of the weights (root mean square)"]
