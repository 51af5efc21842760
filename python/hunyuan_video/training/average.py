"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hunyuan_video.training.distributed import local


class Average:
    """The average of the weights over the steps, warmed up so that early weights are forgotten quickly.

    Sharded as the network is when it is made.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        live = [local(p.detach()) for p in network.parameters()]
        torch._foreach_lerp_([local(weight) for weight in self.weights.values()], live, 1 - decay)

    @contextmanager
    def in_place_of(self, network: nn.Module) -> Iterator[nn.Module]:
        """The network holds the averaged weights inside this context."""
        live = [local(p.detach()).clone() for p in network.parameters()]
        _copy(network, list(self.weights.values()))
        try:
            yield network
        finally:
            _copy(network, live)


@torch.no_grad()
def _copy(network: nn.Module, weights: list[Tensor]) -> None:
    for parameter, weight in zip(network.parameters(), weights, strict=True):
        local(parameter).copy_(local(weight))
