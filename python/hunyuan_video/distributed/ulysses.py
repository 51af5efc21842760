"""Ulysses sequence parallelism: each rank of a group holds a part of the video tokens, and in attention some heads.

Everything in a block but attention works token by token. So the video tokens are dealt out before the blocks; attention
trades tokens for heads (all-to-all), attends to all tokens with its heads, and trades back; the last layer's output is
gathered. The text, a few hundred tokens, is on every rank, which takes its heads of it and gathers the result. Tokens
are padded to a multiple of the ranks outside attention and cut there, so no length is refused; heads that do not divide
are padded with zeros, which wastes their share. A rank has 16 tokens at least: MKL adds up the products of fewer rows
in another order, and so a rank's rows have the bits that they have in the whole sequence.

The model is not changed: `install` gives it an executor with a layer more. Each collective's backward pass is its
transpose.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.transformer.executor import Attention, Layer, Run

Group = Any  # a process group
LEAST = 16  # tokens of a rank
# Newer names first: torch 2.13 warns of the older ones at every first call.
_gather_all = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def install(network: nn.Module, group: Group) -> bool:
    """Makes a transformer work on its share of the tokens; False where the network is none (it is left alone).

    All ranks of the group must then call it with the same arguments; each gets the whole velocity.
    """
    if not isinstance(network, HunyuanVideoTransformer):
        return False
    network.executor = network.executor.adding(TokenShare(group))
    return True


class TokenShare(Layer):
    """Blocks work on this rank's video tokens."""

    place = "tokens"

    def __init__(self, group: Group):
        self.group = group
        self.tokens = 0  # of the whole sequence in the forward pass under way

    def all_blocks(  # [B, S, D] -> [B, S' / P, D]
        self, run: Run, img: list[Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        whole, ranks = img.pop(), dist.get_world_size(self.group)
        self.tokens = whole.shape[1]
        size = max(-(-self.tokens // ranks), LEAST)
        padded = F.pad(whole, (0, 0, 0, size * ranks - self.tokens))
        share = padded.chunk(ranks, dim=1)[dist.get_rank(self.group)]
        if "first_tokens" in kwargs:  # of the clean frame of image-to-video: those that this rank has
            before = dist.get_rank(self.group) * share.shape[1]
            kwargs["first_tokens"] = min(max(kwargs["first_tokens"] - before, 0), share.shape[1])
        taken = [share.contiguous()]
        del whole, padded, share
        return run(taken, *args, **kwargs)

    def output(self, out: Tensor) -> Tensor:  # [B, S' / P, C] -> [B, S, C]
        return gather(out, 1, self.group)[:, : self.tokens]

    def attention(self, attention: Attention) -> Attention:
        return UlyssesAttention(self.group, attention)


class UlyssesAttention:
    """`rope_attention` where q, k and v hold this rank's video tokens, then all text tokens; so does the result."""

    def __init__(self, group: Group, attention: Attention):
        self.group, self.attention = group, attention

    @torch.compiler.disable  # collectives stay out of compiled blocks
    def __call__(
        self,
        q: Tensor,  # [B, S' / P + L, H, D]
        k: Tensor,
        v: Tensor,
        *,
        rope: tuple[Tensor, Tensor],  # of the whole sequence, [S, D] each
        text_len: int,  # L
        **settings: Any,
    ) -> Tensor:
        heads, ranks, tokens = q.shape[2], dist.get_world_size(self.group), rope[0].shape[0]
        qkv = F.pad(torch.cat((q, k, v)), (0, 0, 0, -heads % ranks))  # [3 B, S' / P + L, H', D]
        video, text = qkv.split((q.shape[1] - text_len, text_len), dim=1)
        text = text.chunk(ranks, dim=2)[dist.get_rank(self.group)]
        joined = torch.cat((tokens_to_heads(video, self.group)[:, :tokens], text), dim=1)
        q, k, v = joined.chunk(3)
        out = self.attention(q, k, v, rope=rope, text_len=text_len, **settings)  # [B, S + L, H' / P, D]
        video_out, text_out = out.split((tokens, text_len), dim=1)
        video_out = F.pad(video_out, (0, 0, 0, 0, 0, ranks * video.shape[1] - tokens))
        attended = torch.cat((heads_to_tokens(video_out, self.group), gather(text_out, 2, self.group)), dim=1)
        return attended[:, :, :heads]


def tokens_to_heads(x: Tensor, group: Group) -> Tensor:  # [B, S / P, H, D] -> [B, S, H / P, D]
    ranks = dist.get_world_size(group)
    sent = x.unflatten(2, (ranks, -1)).permute(2, 0, 1, 3, 4)  # [to rank, B, S / P, H / P, D]
    return _Exchange.apply(sent, group).permute(1, 0, 2, 3, 4).flatten(1, 2)


def heads_to_tokens(x: Tensor, group: Group) -> Tensor:  # [B, S, H / P, D] -> [B, S / P, H, D]
    ranks = dist.get_world_size(group)
    sent = x.unflatten(1, (ranks, -1)).permute(1, 0, 2, 3, 4)  # [to rank, B, S / P, H / P, D]
    return _Exchange.apply(sent, group).permute(1, 2, 0, 3, 4).flatten(2, 3)


def gather(x: Tensor, dim: int, group: Group) -> Tensor:
    """The ranks' tensors, one after the other along `dim`."""
    return torch.cat(_Gather.apply(x, group).unbind(0), dim=dim)


class _Exchange(torch.autograd.Function):
    """Slice i of the first dimension goes to rank i: its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:  # [P, ...]
        ctx.group = group
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        dist.all_to_all_single(out, x.contiguous(), group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Exchange.apply(gradients[0], ctx.group), None


class _Gather(torch.autograd.Function):
    """[...] of each rank -> [P, ...] on each; transposed: the sum over the ranks of what each has for this one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        out = x.new_empty(dist.get_world_size(group), *x.shape)
        _gather_all(out.view(-1), x.reshape(-1), group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].new_empty(gradients[0].shape[1:])
        _reduce_scatter(total.view(-1), gradients[0].reshape(-1), group=ctx.group)
        return total, None
