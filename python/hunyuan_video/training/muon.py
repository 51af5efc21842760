"""Muon: momentum whose matrix is orthogonalised before it is applied (Jordan et al. 2024, Newton-Schulz iteration).

torch.optim.Muon takes matrices only; this one also takes convolutions, as [out, in * taps] matrices. On the tiny causal
VAE it lowered the reconstruction loss about twice as fast as AdamW (recipes/tiny/README.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic that pushes all singular values towards 1


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:  # [N, K] -> [N, K] float32, singular values near 1
    """Newton-Schulz iteration in bfloat16; its error is far below what an optimizer notices."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Updates have the root mean square of AdamW's (0.2 per element), so learning rates are of AdamW's size.

    params: parameters of two or more dimensions. lr > 0; momentum in [0, 1), Nesterov; weight_decay decoupled.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # takes no closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = scaled_update(parameter.grad.lerp(buffer, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])


def scaled_update(ahead: Tensor) -> Tensor:  # [out, in, ...] -> the same shape
    """A sharded matrix is gathered, since all of it is needed; every rank keeps its part of the result."""
    whole = ahead.full_tensor() if isinstance(ahead, DTensor) else ahead
    matrix = whole.flatten(1)
    update = (orthogonalise(matrix) * 0.2 * max(matrix.shape) ** 0.5).view_as(whole)
    if isinstance(ahead, DTensor):
        return distribute_tensor(update, ahead.device_mesh, ahead.placements, src_data_rank=None)
    return update
