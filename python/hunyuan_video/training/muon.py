"""Muon: momentum whose matrix is orthogonalised before it is applied (Jordan et al. 2024, Newton-Schulz iteration).

torch.optim.Muon takes matrices only; this one also takes convolutions, as [out, in * taps] matrices. On the tiny causal
VAE it lowered the reconstruction loss about twice as fast as AdamW (recipes/tiny/README.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from hunyuan_video.training.recorded import Replay

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic that pushes all singular values towards 1


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:  # [..., N, K] -> [..., N, K] float32
    """Each matrix with singular values near 1: Newton-Schulz iteration in bfloat16; its error is far below what an
    optimizer notices."""
    a, b, c = COEFFICIENTS
    x = matrices.flatten(0, -3) if matrices.ndim > 2 else matrices[None]
    x = x.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float().reshape(matrices.shape)


class Muon(torch.optim.Optimizer):
    """Updates have the root mean square of AdamW's (0.2 per element), so learning rates are of AdamW's size.

    params: parameters of two or more dimensions. lr > 0; momentum in [0, 1), Nesterov; weight_decay decoupled.
    Matrices of one shape are orthogonalised together: a small network on a GPU waits for calls, not for arithmetic.
    cuda_graphs: record those calls and replay them; for one group of parameters, all on a GPU.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        cuda_graphs: bool = False,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.scaled: Callable[[list[Tensor]], list[Tensor]] = Replay(scaled_updates) if cuda_graphs else scaled_updates

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # takes no closure
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            gradients = [parameter.grad for parameter in parameters]
            momenta = [self.momentum_of(parameter) for parameter in parameters]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            updates = self.scaled(list(torch._foreach_lerp(gradients, momenta, group["momentum"])))
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])

    def momentum_of(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def scaled_updates(ahead: list[Tensor]) -> list[Tensor]:  # [out, in, ...] each -> the same shapes
    """A sharded matrix is gathered, since all of it is needed; every rank keeps its part of the result."""
    whole = [tensor.full_tensor() if isinstance(tensor, DTensor) else tensor for tensor in ahead]
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, tensor in enumerate(whole):
        by_shape.setdefault((tensor.shape[0], tensor[0].numel()), []).append(index)
    updates: list[Tensor] = [*ahead]
    for shape, indices in by_shape.items():
        matrices = torch.stack([whole[index].reshape(shape) for index in indices])
        for index, update in zip(indices, orthogonalise(matrices).mul_(0.2 * max(shape) ** 0.5), strict=True):
            updates[index] = dealt(update.view_as(whole[index]), ahead[index])
    return updates


def dealt(update: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole update, where the parameter is sharded."""
    if not isinstance(like, DTensor):
        return update
    return distribute_tensor(update, like.device_mesh, like.placements, src_data_rank=None)
