"""adaLN: shift, scale and gate vectors from the condition (timestep, pooled text, guidance) of a call.

They do not depend on the latents. For a fixed schedule they are known before the first step, and one GEMM per layer
with a row per step reads each weight once instead of once per step: 27 % of the 13B model's block weights.

In image-to-video by token replacement (paper section 7.2) the tokens of the first latent frame, which is clean, have a
condition of their own: timestep 0 and the pooled text. The sequence is then worked on in two slices.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_video.models.transformer.linear import Inputs, Part, linear, modulated


def near(module: nn.Module, device: torch.device) -> nn.Module:
    """The module, or a copy of it on the device for as long as it is used; the module itself is not touched.

    So layers that are read once a run may stay in host memory, whatever number of runs share them.
    """
    return module if is_on(module, device) else copied(module, device)


def is_on(module: nn.Module, device: torch.device) -> bool:
    """True if all tensors of a module are on the device; asked in every call, so past nn.Module's slow iterators."""
    for tensors in (module._parameters, module._buffers):
        for tensor in tensors.values():
            if tensor is not None and tensor.device != device:
                return False
    parts = module._modules  # mostly none
    return not parts or all(is_on(part, device) for part in parts.values() if part is not None)


def copied(module: nn.Module, device: torch.device, skip: Collection[str] = ()) -> nn.Module:
    """A copy of a module whose tensors are on the device; hooks and settings are the module's.

    Tensors that are stored elsewhere (`stored`, see streamed.py) are read. skip: children that are left as they are.
    """
    twin = copy.copy(module)
    parts = {
        name: part if part is None or name in skip else copied(part, device) for name, part in module._modules.items()
    }
    fill = vars(module).get("stored")
    if fill is not None:
        vars(twin).update(_modules=parts, _parameters={**module._parameters}, _buffers={**module._buffers})
        del vars(twin)["stored"]
        fill(twin, device)
        return twin
    parameters = {
        name: None if value is None else nn.Parameter(value.to(device, non_blocking=True), value.requires_grad)
        for name, value in module._parameters.items()
    }
    buffers = {name: None if value is None else value.to(device) for name, value in module._buffers.items()}
    vars(twin).update(_modules=parts, _parameters=parameters, _buffers=buffers)
    arrived = getattr(twin, "arrived", None)  # of a layer with adapters that are to be merged
    return twin if arrived is None else arrived()


class Modulation(nn.Module):
    """Linear(SiLU(vec)): `count` vectors side by side."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.linear = nn.Linear(width, count * width)

    def forward(self, vec: Tensor) -> Tensor:  # [..., D] -> [..., count * D]
        return linear(near(self._modules["linear"], vec.device), F.silu(vec))  # type: ignore[arg-type]


class Modulations(NamedTuple):
    """Result of `HunyuanVideoTransformer.modulations`: the vectors of every layer, for N timesteps or for one.

    Tensors are [N, B, count * D], or [B, count * D] after `step`; a forward takes the latter.
    """

    double: tuple[tuple[Tensor, Tensor], ...]  # per block, video and text: count = 6
    single: tuple[Tensor, ...]  # per block: count = 3
    final: Tensor  # count = 2
    first: tuple[Tensor, ...] = ()  # image-to-video: of the clean frame, per double then single block, [B, count * D]

    def of_block(self, index: int) -> tuple[tuple[Tensor, Tensor] | Tensor, Tensor | None]:
        """Modulation of a block (double blocks first) and, in image-to-video, that of the clean frame."""
        doubles = len(self.double)
        modulation = self.double[index] if index < doubles else self.single[index - doubles]
        return modulation, self.first[index] if self.first else None

    def step(self, index: int) -> Modulations:
        """The vectors of timestep `index`, as views."""
        double = tuple((video[index], text[index]) for video, text in self.double)
        return Modulations(double, tuple(vectors[index] for vectors in self.single), self.final[index], self.first)

    def rows(self, rows: slice) -> Modulations:
        """Some samples of the vectors of one timestep, as views."""
        double = tuple((video[rows], text[rows]) for video, text in self.double)
        first = tuple(vectors[rows] for vectors in self.first)
        return Modulations(double, tuple(vectors[rows] for vectors in self.single), self.final[rows], first)


class SplitVector(NamedTuple):
    """A shift, scale or gate that is not the same for all tokens of a sequence: the first ones have their own."""

    tokens: int  # how many, at least 1
    first: Tensor  # [B, D], of those
    rest: Tensor  # [B, D]


Vector = Tensor | SplitVector  # [B, D]


def chunks(
    modulation: Tensor,  # [B, count * D]
    count: int,
    first_tokens: int = 0,
    first: Tensor | None = None,  # [B, count * D]
) -> Sequence[Vector]:
    """The `count` vectors of a modulation, split where the first tokens have one of their own."""
    vectors = modulation.chunk(count, dim=-1)
    if first is None or not first_tokens:
        return vectors
    pairs = zip(first.chunk(count, dim=-1), vectors, strict=True)
    return [SplitVector(first_tokens, of_first, rest) for of_first, rest in pairs]


def modulated_spans(
    x: Tensor,  # [B, S, D]
    shift: Vector,
    scale: Vector,
    reader: nn.Module,
) -> Part:  # [B, S, D]
    """LN(x) * (1 + scale) + shift for the linear that reads it; a plain tensor where the vectors are split."""
    if isinstance(shift, SplitVector) and isinstance(scale, SplitVector):
        head, tail = x[:, : shift.tokens], x[:, shift.tokens :]
        first = ops.layer_norm_modulate(head, shift.first, scale.first)
        return torch.cat((first, ops.layer_norm_modulate(tail, shift.rest, scale.rest)), dim=1)
    return modulated(x, shift, scale, reader)  # type: ignore[arg-type]


def gated_linear(
    module: nn.Module,
    x: Inputs,  # [B, S, K]
    gate: Vector | None,
    residual: Tensor | None,  # [B, S, N]
) -> Tensor:  # [B, S, N]
    """residual + gate * module(x); with a split gate x is plain."""
    if not isinstance(gate, SplitVector):
        return linear(module, x, gate=gate, residual=residual)
    assert residual is not None
    parts = []
    for span, span_gate in ((slice(gate.tokens), gate.first), (slice(gate.tokens, None), gate.rest)):
        inputs = (x[0][:, span], x[1][:, span]) if type(x) is tuple else x[:, span]  # type: ignore[call-overload]
        parts.append(linear(module, inputs, gate=span_gate, residual=residual[:, span]))
    return torch.cat(parts, dim=1)
