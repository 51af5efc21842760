"""Execution of the transformer's blocks: each called as it is, or with layers around it, in one fixed order.

`transformer.executor = transformer.executor.adding(layer)` is the one place where memory and parallelism change a
forward pass; the blocks know nothing of it. Layers that `ORDER` names first are outermost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import hunyuan_ext as ops

Run = Callable[..., Any]  # (block, *arguments) -> what the block returns
Attention = Callable[..., Tensor]  # as `hunyuan_ext.rope_attention`

ORDER = (
    "tokens",  # shared by several ranks
    "weights",  # brought to the device when they are due
    "positions",  # of the tokens
    "tiles",  # order of the tokens, for attention within windows
    "steps",  # blocks skipped where an earlier step's result will do
    "activations",  # computed again in the backward pass, or kept in host memory
    "chunks",  # tokens worked on a part at a time
)


class Layer:
    """One change to how blocks run, at its `place` in `ORDER`. What is not overridden changes nothing."""

    place = ""

    def all_blocks(self, run: Run, img: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:  # [B, S, D] -> [B, S, D]
        """Runs all blocks once: `run` is `HunyuanVideoTransformer.run_blocks`, the rest its arguments.

        img holds one tensor, which whoever works on it takes out: no caller keeps it alive meanwhile.
        """
        return run(img, *args, **kwargs)

    def output(self, out: Tensor) -> Tensor:  # [B, S, patch volume * C]
        """Changes what the last layer returns."""
        return out

    def around(self, run: Run) -> Run:
        """Wraps the call of a block, hooks and all: its weights need not be there before."""
        return run

    def inside(self, run: Run) -> Run:
        """Wraps a block's arithmetic: a sharded block has gathered its weights, a compiled one compiles this too."""
        return run

    def attention(self, attention: Attention) -> Attention:
        """Wraps the attention of video and text tokens."""
        return attention


def call(block: nn.Module, *args: Any) -> Any:
    return block(*args)


def compute(block: Any, *args: Any) -> Any:
    return block.compute(*args)


class BlockExecutor:
    """Runs blocks with the given layers around them; immutable, so that one may be shared and compared.

    `run(block, *arguments)` calls a block, which calls `inside(block, *arguments)`, which calls `block.compute`.
    """

    def __init__(self, layers: Iterable[Layer] = ()):
        self.layers = tuple(sorted(layers, key=_depth))
        self.attention: Attention = ops.rope_attention
        self.inside: Run = compute
        self._around: Run = call
        for layer in reversed(self.layers):
            self._around, self.inside = layer.around(self._around), layer.inside(self.inside)
            self.attention = layer.attention(self.attention)

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockExecutor, (self.layers,)

    def adding(self, layer: Layer) -> BlockExecutor:
        """The same with one more layer, in the place of an earlier one of its place."""
        return BlockExecutor((*self.without(layer.place).layers, layer))

    def without(self, place: str) -> BlockExecutor:
        return BlockExecutor(layer for layer in self.layers if layer.place != place)

    def has(self, place: str) -> bool:
        return any(layer.place == place for layer in self.layers)

    def run(self, block: nn.Module, *args: Any) -> Any:
        return self._around(block, *args, self)

    def all_blocks(self, run: Run, img: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:  # [B, S, D] -> [B, S, D]
        for layer in reversed(self.layers):
            run = _within(layer, run)
        return run(img, *args, **kwargs)

    def output(self, out: Tensor) -> Tensor:  # [B, S', patch volume * C] -> [B, S, patch volume * C]
        for layer in reversed(self.layers):
            out = layer.output(out)
        return out


def _depth(layer: Layer) -> int:
    if layer.place not in ORDER:
        raise ValueError(f"a layer's place must be one of {', '.join(ORDER)}, got {layer.place!r}")
    return ORDER.index(layer.place)


def _within(layer: Layer, run: Run) -> Run:
    return lambda img, *args, **kwargs: layer.all_blocks(run, img, *args, **kwargs)


PLAIN = BlockExecutor()


class Recompute(Layer):
    """Computes blocks again in the backward pass instead of keeping their activations.

    blocks: which; all where None. settings: of `torch.utils.checkpoint.checkpoint`.
    """

    place = "activations"

    def __init__(self, blocks: Iterable[nn.Module] | None = None, **settings: Any):
        self.blocks = None if blocks is None else frozenset(blocks)
        self.settings = {"use_reentrant": False, **settings}

    def inside(self, run: Run) -> Run:
        def recomputed(block: nn.Module, *args: Any) -> Any:
            if not torch.is_grad_enabled() or not (self.blocks is None or block in self.blocks):
                return run(block, *args)
            return checkpoint(run, block, *args, **self.settings)

        return recomputed
