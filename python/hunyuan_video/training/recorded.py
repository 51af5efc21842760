"""CUDA graphs of a training step: calls recorded once and replayed, so that a small network need not wait for the host.

A step of a network of a few million parameters is 2,000 to 3,000 kernels, which a GPU runs in a third of the time that
the host takes to start them one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Recorded:
    """A module whose forward and backward passes in training are recorded, once for each set of shapes.

    on: False calls the module as it is, as evaluations do always. Gradients of a recorded pass lie where the next one
    writes its own: they must be used up, not added to, between two calls.
    """

    def __init__(self, module: nn.Module, on: bool):
        self.module, self.on = module, on
        self.calls: dict[tuple, Callable[..., Any]] = {}

    def __call__(self, *args: Tensor, **named: Tensor) -> Any:
        if not (self.on and torch.is_grad_enabled() and self.module.training):
            return self.module(*args, **named)
        tensors = (*args, *named.values())
        key = (len(args), *named, *((tensor.shape, tensor.dtype) for tensor in tensors))
        # Weights that autocast keeps from one pass to the next would be those of the recording.
        with torch.autocast("cuda", enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False,
                            dtype=torch.get_autocast_dtype("cuda")):  # fmt: skip
            if key not in self.calls:
                samples = tuple(tensor.detach().clone() for tensor in tensors)
                call = _Positional(self.module, tuple(named))
                self.calls[key] = torch.cuda.make_graphed_callables(call, samples, allow_unused_input=True)
            return self.calls[key](*tensors)


class _Positional(nn.Module):
    """A call whose last arguments have names."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]):
        super().__init__()
        self.module, self.names = module, names

    def forward(self, *tensors: Tensor) -> Any:
        first = len(tensors) - len(self.names)
        return self.module(*tensors[:first], **dict(zip(self.names, tensors[first:], strict=True)))


class Replay:
    """A function of tensors without gradients, recorded at the first call; a call overwrites the results before."""

    def __init__(self, function: Callable[[list[Tensor]], list[Tensor]]):
        self.function = function
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def __call__(self, tensors: list[Tensor]) -> list[Tensor]:
        if self.graph is None:
            self.record(tensors)
        if len(tensors) != len(self.inputs):
            return self.function(tensors)
        torch._foreach_copy_(self.inputs, tensors)
        assert self.graph is not None
        self.graph.replay()
        return self.outputs

    def record(self, tensors: list[Tensor]) -> None:
        self.inputs = [tensor.detach().clone() for tensor in tensors]
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):  # libraries allocate at their first call what a recording may not
            for _ in range(2):
                self.function(self.inputs)
        current.wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = self.function(self.inputs)
