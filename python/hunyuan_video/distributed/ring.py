"""Keys around a ring, for more ranks than heads: U ranks trade tokens for heads, R such groups pass on their keys.

Ranks r * U .. r * U + U - 1 hold the r-th chunk of the tokens. After the trade (ulysses.py) a rank has the whole chunk
with some heads. Its queries attend to one chunk of keys after the other while the next one is on its way, and the
results are merged by their log-sum-exp, in float32. Queries of the text, which every rank has, attend to the keys that
are here, and these parts are merged in the order of the ranks, so that the text stays the same on all of them. For
inference; sums over keys are split, so that the result is one rank's up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

import hunyuan_ext as ops
from hunyuan_video.distributed.ulysses import Group, TokenShare, gather, heads_to_tokens, tokens_to_heads
from hunyuan_video.models.transformer.executor import Attention

WASTE = 0.25  # of attention's work, on heads that are only there to divide: beyond it keys go around
EPS = 1e-6  # of the norm of queries and keys
Part = tuple[Tensor, Tensor]  # [B, S, H, D] float32, [B, H, S] log of the sum of exponentials


def heads_degree(heads: int, ranks: int, exact: bool) -> int:
    """Ranks U that share the heads, a divisor of `ranks`; ranks / U pass on keys. exact: never pass any on."""
    if exact:
        return ranks
    fitting = [u for u in range(1, ranks + 1) if ranks % u == 0 and -(-heads // u) * u <= (1 + WASTE) * heads]
    return max(fitting)


class RingShare(TokenShare):
    """Blocks work on this rank's video tokens, and keys go around a ring.

    group: all ranks that share the tokens; heads: the U of them with this chunk, None for this one alone; ring: the R
    ranks with the same heads, in the order of their chunks.
    """

    def __init__(self, group: Group, heads: Group | None, ring: Group):
        super().__init__(group)
        self.heads, self.ring = heads, ring

    def attention(self, attention: Attention) -> Attention:
        return RingAttention(self.heads, self.ring)


class RingAttention:
    """`rope_attention` where q, k and v hold this rank's video tokens, then all text tokens; so does the result."""

    def __init__(self, heads: Group | None, ring: Group):
        self.heads, self.ring = heads, ring
        self.degree = 1 if heads is None else dist.get_world_size(heads)

    @torch.compiler.disable  # collectives stay out of compiled blocks
    def __call__(
        self,
        q: Tensor,  # [B, S' + L, H, D], S' video tokens of this rank
        k: Tensor,
        v: Tensor,
        *,
        rope: tuple[Tensor, Tensor],  # of the whole sequence, [S, D] each
        text_len: int,  # L
        q_norm: Tensor | None = None,  # [D]
        k_norm: Tensor | None = None,
        text_norms: tuple[Tensor, Tensor] | None = None,
        kv_len: Tensor | None = None,  # [B]
        precision: str = "auto",
    ) -> Tensor:
        count, share, tokens = q.shape[2], q.shape[1] - text_len, rope[0].shape[0]
        chunk = share * self.degree
        sizes = [min(max(tokens - i * chunk, 0), chunk) for i in range(dist.get_world_size(self.ring))]
        place = dist.get_rank(self.ring)
        here = slice(place * chunk, place * chunk + sizes[place])
        video, text = self._trade(F.pad(torch.cat((q, k, v)), (0, 0, 0, -count % self.degree)), text_len)
        q, k, v = torch.cat((video[:, : sizes[place]], text), dim=1).chunk(3)
        norms = q_norm, k_norm, *(text_norms or (None, None))
        q, k = (
            x.transpose(1, 2)
            for x in torch.ops.hunyuan_ext.qk_norm_rope(q, k, *norms, rope[0][here], rope[1][here], text_len, EPS)
        )
        (q_video, q_text), (k_video, k_text), (v_video, v_text) = (
            x.split((sizes[place], text_len), dim=1) for x in (q, k, v)
        )
        valid = None if kv_len is None else (kv_len - tokens).to(torch.int32)
        own = _attend(q_text, k_video, v_video)
        parts = zip(*(gather(x[None], 0, self.ring).unbind(0) for x in own), strict=True)
        text_out = merged([*parts, _attend(q_text, k_text, v_text, valid)])
        video_out: Part | None = None
        for keys, values in self._around(k_video, v_video, sizes, chunk):
            part = _attend(q_video, keys, values)
            video_out = part if video_out is None else merged([video_out, part])
        assert video_out is not None  # the first chunk is never empty
        video_out = merged([video_out, _attend(q_video, k_text, v_text, valid)])
        padded = F.pad(video_out[0].to(v.dtype), (0, 0, 0, 0, 0, chunk - sizes[place]))
        return self._trade_back(padded, text_out[0].to(v.dtype))[:, :, :count]

    def _trade(self, qkv: Tensor, text_len: int) -> Part:  # [3 B, S' + L, H, D]
        """Video tokens of the chunk and text, [3 B, U * S', H / U, D] and [3 B, L, H / U, D]."""
        video, text = qkv.split((qkv.shape[1] - text_len, text_len), dim=1)
        if self.heads is None:
            return video, text
        return tokens_to_heads(video, self.heads), text.chunk(self.degree, dim=2)[dist.get_rank(self.heads)]

    def _trade_back(self, video: Tensor, text: Tensor) -> Tensor:  # [B, U * S', H / U, D], [B, L, H / U, D]
        if self.heads is not None:
            video, text = heads_to_tokens(video, self.heads), gather(text.contiguous(), 2, self.heads)
        return torch.cat((video, text), dim=1)

    def _around(self, keys: Tensor, values: Tensor, sizes: list[int], chunk: int) -> Any:
        """Keys and values of one chunk after the other, the own one first; the next is on its way meanwhile."""
        ranks, place = len(sizes), dist.get_rank(self.ring)
        there, back = (dist.get_global_rank(self.ring, (place + step) % ranks) for step in (1, -1))
        moving = F.pad(torch.stack((keys, values)), (0, 0, 0, 0, 0, chunk - sizes[place])).contiguous()
        for hop in range(ranks):
            size = sizes[(place - hop) % ranks]
            coming, waiting = torch.empty_like(moving), []
            if hop + 1 < ranks:
                sends = dist.P2POp(dist.isend, moving, there, self.ring)
                waiting = dist.batch_isend_irecv([sends, dist.P2POp(dist.irecv, coming, back, self.ring)])
            if size:
                yield moving[0, :, :size], moving[1, :, :size]
            for work in waiting:
                work.wait()
            moving = coming


def _attend(q: Tensor, k: Tensor, v: Tensor, kv_len: Tensor | None = None) -> Part:  # [B, S, H, D]
    """Attention to some of the keys."""
    if k.shape[1] == 0:
        batch, tokens, heads, _ = q.shape
        return torch.zeros_like(q, dtype=torch.float32), q.new_full((batch, heads, tokens), -torch.inf).float()
    out, lse = ops.attention_with_lse(q, k, v, kv_len=kv_len)
    return out.float(), lse.float()


def merged(parts: list[Part]) -> Part:
    """Attention to all the keys of which each part has some, added in order; some part must have one."""
    top = torch.stack([lse for _, lse in parts]).amax(0)
    top = top.masked_fill(top == -torch.inf, 0)
    weights = [(lse - top).exp() for _, lse in parts]
    whole = sum(weights[1:], weights[0])
    spread = [(weight / whole).transpose(1, 2)[..., None] for weight in weights]
    out = parts[0][0] * spread[0]
    for (values, _), share in zip(parts[1:], spread[1:], strict=True):
        out = out + values * share
    return out, top + whole.log()
