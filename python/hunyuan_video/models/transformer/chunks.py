"""Blocks that work on a part of a long sequence at a time: all but attention is done token by token.

Whole are only the input, queries, keys and values, and the output. Attention overwrites the queries with what it
attends to, keys and values go, and then each part passes all that follows before the next one begins. So a hidden layer
or a normed sequence is never there at once: a step of the 13B model at 720p x 129 frames needs a tenth of its weights
in memory beside them, instead of more than half (docs/memory.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_ext.core import plain
from hunyuan_video.models.transformer.executor import Attention, Layer, Run
from hunyuan_video.models.transformer.linear import Part, columns, is_open, linear, modulated
from hunyuan_video.models.transformer.modulation import SplitVector, Vector

TOKENS = 16384  # of a part: enough for products to run at full speed
TILE = 256  # rows of a tile of those products


class Span(NamedTuple):
    """Part of a tensor [B, S, ...]."""

    samples: slice
    tokens: slice

    def of(self, x: Tensor) -> Tensor:
        return x[self.samples, self.tokens]

    def vector(self, vector: Vector) -> Tensor:  # [b, D]
        """The vector of these tokens, which must all have the same."""
        if isinstance(vector, SplitVector):
            vector = vector.first if self.tokens.start < vector.tokens else vector.rest
        return vector[self.samples]


def even(tokens: int, size: int) -> int:
    """Tokens of a part when `tokens` are cut into as few parts of at most `size` as possible, all about as long.

    A last part of a few rows would go to other kernels, with other roundings (fp8_linear).
    """
    parts = max(-(-tokens // size), 1)
    step = TILE if size % TILE == 0 else 1
    return -(-tokens // (parts * step)) * step


def spans(x: Tensor, size: int, border: int = 0) -> Iterator[Span]:  # x: [B, S, ...]
    """Parts of at most `size` tokens of one sample, none across the border; all of x where it is short."""
    batch, tokens = x.shape[:2]
    everywhere = [slice(0, batch)] if tokens <= size else [slice(i, i + 1) for i in range(batch)]
    for samples in everywhere:
        for first, last in ((0, border), (border, tokens)):
            step = max(even(last - first, size), 1)
            for start in range(first, last, step):
                yield Span(samples, slice(start, min(start + step, last)))


class TokenChunks(Layer):
    """Blocks whose sequence is longer than `tokens` work on so many at a time, where no gradient is wanted."""

    place = "chunks"

    def __init__(self, tokens: int = TOKENS):
        self.tokens = tokens

    def inside(self, run: Run) -> Run:
        def chunked(block: nn.Module, *args: Any) -> Any:
            in_parts = hasattr(block, "in_parts") and self.applies(args[0])
            return run(block, *args, self.tokens) if in_parts else run(block, *args)

        return chunked

    def applies(self, x: Tensor) -> bool:  # [B, S, D]
        return (
            x.shape[1] > self.tokens
            and plain.device_type(x) in ("cpu", "cuda")
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not plain.autocast_enabled(x.device.type)
        )


class Heads:
    """Queries, keys and values of a whole sequence, [B, S, H, D] each with memory of its own."""

    def __init__(self, batch: int, tokens: int, heads: int, width: int, like: Tensor):
        self.parts = [like.new_empty(batch, tokens, width) for _ in range(3)]
        self.heads, self.width = heads, width

    def project(self, module: nn.Module, x: Part, span: Span, offset: int = 0) -> Tensor | None:
        """Writes the first 3 D columns of module(x) to the tokens of a span, `offset` further on.

        Returns the other columns where they had to be computed, too: of a module with something around it.
        """
        place = Span(span.samples, slice(span.tokens.start + offset, span.tokens.stop + offset))
        outs = [place.of(part) for part in self.parts]
        if is_open(module):
            for i, out in enumerate(outs):
                columns(module, x, i * self.width, (i + 1) * self.width, out=out)
            return None
        product = linear(module, x)
        for out, part in zip(outs, product[..., : 3 * self.width].chunk(3, dim=-1), strict=True):
            out.copy_(part)
        return product[..., 3 * self.width :]

    def attend(self, attention: Attention, **settings: Any) -> Tensor:  # [B, S, D]
        """The values that the tokens attend to; queries, keys and values are gone afterwards."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.parts)
        self.parts.clear()
        run = ops.rope_attention_ if attention is ops.rope_attention else attention
        return run(q, k, v, **settings).flatten(2)


def normed(x: Tensor, span: Span, shift: Vector, scale: Vector, reader: nn.Module) -> Part:  # of x: [b, s, D]
    """LN(x) * (1 + scale) + shift of a span, for the linear that reads it."""
    return modulated(span.of(x), span.vector(shift), span.vector(scale), reader)


def project_all(
    heads: Heads,
    module: nn.Module,
    x: Tensor,  # [B, S, D]
    vectors: Sequence[Vector],  # shift and scale
    size: int,
    offset: int = 0,
) -> list[Tensor]:  # [b, s, N - 3 D] each
    """Projects all tokens of x; what `Heads.project` returns of every span, if it returns something."""
    shift, scale = vectors
    rest = []
    for span in spans(x, size, border(shift)):
        others = heads.project(module, normed(x, span, shift, scale, module), span, offset)
        if others is not None and others.shape[-1]:
            rest.append(others.contiguous())  # without the columns beside them
    return rest


def border(vector: Vector) -> int:
    """Number of tokens that have vectors of their own."""
    return vector.tokens if isinstance(vector, SplitVector) else 0
