"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hunyuan_video.distributed.fsdp import local


class EMA:
    """The average of the trained weights over the steps, warmed up so that early weights are forgotten quickly.

    Sharded as the network is when it is made. Frozen weights, all but an adapter's, are their own average.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_([local(weight) for weight in self.weights.values()], self._live(network), 1 - decay)

    @contextmanager
    def in_place_of(self, network: nn.Module) -> Iterator[nn.Module]:
        """The network holds the averaged weights inside this context, and `weights` those of the network."""
        self._exchange(network)
        try:
            yield network
        finally:
            self._exchange(network)

    def _live(self, network: nn.Module) -> list[Tensor]:
        """This rank's part of the network's weights, in the order of the averages."""
        parameters = dict(network.named_parameters())
        return [local(parameters[name].detach()) for name in self.weights]

    @torch.no_grad()
    def _exchange(self, network: nn.Module) -> None:
        """Weights and averages change places, one by one: a copy of all would be memory that no step needs."""
        for weight, average in zip(self._live(network), map(local, self.weights.values()), strict=True):
            value = weight.clone()
            weight.copy_(average)
            average.copy_(value)
