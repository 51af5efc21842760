"""Forms of an adapter: how its few numbers make the change of a linear's weight.

| form | change of W [N, K] |
|---|---|
| Adapter (LoRA, arXiv 2106.09685) | alpha / rank * B A |
| LoHa (arXiv 2108.06098) | scale * (B1 A1) o (B2 A2), elementwise product |
| LoKr (arXiv 2309.14859) | scale * W1 x W2, Kronecker product |
| Difference | the change itself, of a fine-tune |
| DoRA (arXiv 2402.09353) | m * V / norm(V) - W with V = W + the change of another form |
| Rows | other forms, each on some of the rows: q, k and v of a fused weight |

Used at weight w, every form changes W by w times its change: w = 0 is the plain model whatever the form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Form(nn.Module):
    """Base of the forms. shape: [N, K] of the weight that it changes."""

    shape: tuple[int, int]

    def delta(self, base: Tensor) -> Tensor:  # [N, K] float32 -> [N, K] float32
        """The change of a weight at strength 1. Most forms do not depend on the weight."""
        raise NotImplementedError

    def add_to(
        self,
        out: Tensor,  # [..., N]
        x: Tensor,  # [..., K]
        weight: float,
        base: Callable[[], Tensor],  # -> [N, K] float32
    ) -> Tensor:
        """out + weight * delta x; the dense change exists for the length of the call only."""
        change = self.delta(base()).to(x.dtype)
        return out + (weight * F.linear(x, change)).to(out.dtype)


class Adapter(Form):
    """The pair A [rank, K], B [N, rank]; B starts at zero, so a new adapter changes nothing."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        alpha: float | None = None,
        *,
        device: torch.device | None = None,
        drawn: bool = True,
    ):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.shape = (out_features, in_features)
        self.rank, self.alpha = rank, float(rank if alpha is None else alpha)
        self.lora_A = nn.Parameter(torch.empty(rank, in_features, dtype=torch.float32, device=device))
        self.lora_B = nn.Parameter(torch.zeros(out_features, rank, dtype=torch.float32, device=device))
        if drawn:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @classmethod
    def of(cls, a: Tensor, b: Tensor, alpha: float | None = None) -> Adapter:  # [rank, K], [N, rank]
        """The adapter of a given pair."""
        adapter = cls(a.shape[1], b.shape[0], a.shape[0], alpha, device=a.device, drawn=False)
        with torch.no_grad():
            adapter.lora_A.copy_(a)
            adapter.lora_B.copy_(b)
        return adapter

    def add_to(self, out: Tensor, x: Tensor, weight: float, base: Callable[[], Tensor] | None = None) -> Tensor:
        """out + weight * alpha / rank * B (A x); the sum is part of the second product, not a pass of its own."""
        down = F.linear(x, self.lora_A.to(x.dtype)).flatten(0, -2)
        up = self.lora_B.to(down.dtype).t()
        scale = weight * self.alpha / self.rank
        return torch.addmm(out.flatten(0, -2), down, up, alpha=scale).view(out.shape)

    def delta(self, base: Tensor | None = None) -> Tensor:
        """alpha / rank * B A: [N, K] float32."""
        return (self.lora_B.float() @ self.lora_A.float()) * (self.alpha / self.rank)


class LoHa(Form):
    """Elementwise product of two low-rank products: B1, B2 [N, rank], A1, A2 [rank, K]."""

    def __init__(self, b1: Tensor, a1: Tensor, b2: Tensor, a2: Tensor, scale: float):
        super().__init__()
        self.shape, self.scale = (b1.shape[0], a1.shape[1]), scale
        for name, value in (("b1", b1), ("a1", a1), ("b2", b2), ("a2", a2)):
            self.register_buffer(name, value)

    def delta(self, base: Tensor) -> Tensor:
        first = self.get_buffer("b1").float() @ self.get_buffer("a1").float()
        second = self.get_buffer("b2").float() @ self.get_buffer("a2").float()
        return self.scale * first * second


class LoKr(Form):
    """Kronecker product of two factors, each a matrix or the product of two: w1 [n1, k1], w2 [n2, k2]."""

    def __init__(self, w1: Sequence[Tensor], w2: Sequence[Tensor], scale: float):
        super().__init__()
        self.scale, self.counts = scale, (len(w1), len(w2))
        self.shape = (w1[0].shape[0] * w2[0].shape[0], w1[-1].shape[1] * w2[-1].shape[1])
        for factor, matrices in (("w1", w1), ("w2", w2)):
            for number, value in enumerate(matrices):
                self.register_buffer(f"{factor}_{number}", value)

    def delta(self, base: Tensor) -> Tensor:
        first, second = (self._factor(name, count) for name, count in zip(("w1", "w2"), self.counts, strict=True))
        return self.scale * torch.kron(first.contiguous(), second.contiguous())

    def _factor(self, name: str, count: int) -> Tensor:
        matrices = [self.get_buffer(f"{name}_{number}").float() for number in range(count)]
        return matrices[0] if count == 1 else matrices[0] @ matrices[1]


class Difference(Form):
    """The change itself: [N, K]."""

    def __init__(self, change: Tensor):
        super().__init__()
        self.shape = (change.shape[0], change.shape[1])
        self.register_buffer("change", change)

    def delta(self, base: Tensor) -> Tensor:
        return self.get_buffer("change").float()


class DoRA(Form):
    """Another form's result, rescaled to a trained magnitude: [N, 1] (of each row) or [1, K] (of each column)."""

    def __init__(self, direction: Form, magnitude: Tensor):
        super().__init__()
        self.shape, self.direction = direction.shape, direction
        self.register_buffer("magnitude", magnitude)

    def delta(self, base: Tensor) -> Tensor:
        changed = base + self.direction.delta(base)
        magnitude = self.get_buffer("magnitude").float()
        over = 0 if magnitude.shape[0] == 1 and self.shape[0] > 1 else 1
        norm = changed.norm(dim=over, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        return changed * (magnitude / norm) - base


class Rows(Form):
    """Forms of some of the rows each; the other rows stay. swapped: rows are counted with the halves exchanged."""

    def __init__(self, shape: tuple[int, int], parts: Sequence[tuple[int, Form]], swapped: bool = False):
        super().__init__()
        self.shape, self.swapped = shape, swapped
        self.starts = [start for start, _ in parts]
        self.parts = nn.ModuleList(form for _, form in parts)

    def delta(self, base: Tensor) -> Tensor:
        base = halves_exchanged(base) if self.swapped else base
        out = torch.zeros_like(base)
        for start, part in zip(self.starts, self.parts, strict=True):
            assert isinstance(part, Form)
            rows = slice(start, start + part.shape[0])
            out[rows] = part.delta(base[rows])
        return halves_exchanged(out) if self.swapped else out


def halves_exchanged(rows: Tensor) -> Tensor:  # [2 n, ...] -> [2 n, ...]
    """The second half of the rows before the first."""
    return torch.cat(rows.chunk(2)[::-1])
