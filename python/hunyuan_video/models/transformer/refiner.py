"""The token refiner: bidirectional attention over the language model's causal states (paper section 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_video.models.transformer.embeddings import TextProjection, TimestepEmbedder
from hunyuan_video.models.transformer.executor import PLAIN, BlockExecutor
from hunyuan_video.models.transformer.linear import linear

MLP_RATIO = 4  # fixed in the released model, whatever mlp_ratio its blocks have


class RefinerMLP(nn.Module):
    """Linear, SiLU, Linear; keys fc1 and fc2."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(
        self,
        x: Tensor,  # [B, L, D]
        gate: Tensor,  # [B, D]
        residual: Tensor,  # [B, L, D]
    ) -> Tensor:
        """residual + gate * fc2(silu(fc1(x)))."""
        return linear(self.fc2, F.silu(linear(self.fc1, x)), gate=gate, residual=residual)


class RefinerBlock(nn.Module):
    """Pre-norm attention and MLP, each gated by the conditioning vector. No RoPE and no QK-norm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attn_qkv = nn.Linear(width, 3 * width)
        self.self_attn_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = RefinerMLP(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(
        self,
        x: Tensor,  # [B, L, D]
        condition: Tensor,  # [B, D]
        mask: Tensor | None,  # [B, L] bool
        executor: BlockExecutor = PLAIN,
    ) -> Tensor:
        return executor.inside(self, x, condition, mask)

    def compute(self, x: Tensor, condition: Tensor, mask: Tensor | None) -> Tensor:  # as `forward`
        attention_gate, mlp_gate = self.adaLN_modulation(condition).chunk(2, dim=-1)
        x = linear(self.self_attn_proj, self.attend(self.norm1(x), mask), gate=attention_gate, residual=x)
        return self.mlp(self.norm2(x), mlp_gate, x)

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:  # [B, L, D], [B, L] bool prefix
        q, k, v = linear(self.self_attn_qkv, x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if mask is None:
            return ops.rope_attention(q, k, v).flatten(2)
        # Valid tokens see valid tokens; padded ones see token 0 only, and a softmax over one key is its value.
        # Without a valid token kv_len 1 keeps every row finite.
        kv_len = mask.sum(dim=1, dtype=torch.int32).clamp(min=1)
        out = ops.rope_attention(q, k, v, kv_len=kv_len)
        return torch.where(mask[:, :, None, None], out, v[:, :1]).flatten(2)


class IndividualTokenRefiner(nn.Module):
    """The stack of refiner blocks; holds the key prefix `individual_token_refiner.blocks`."""

    def __init__(self, width: int, heads: int, depth: int):
        super().__init__()
        self.blocks = nn.ModuleList(RefinerBlock(width, heads) for _ in range(depth))

    def forward(
        self,
        x: Tensor,  # [B, L, D]
        condition: Tensor,  # [B, D]
        mask: Tensor | None,  # [B, L] bool
        executor: BlockExecutor = PLAIN,
    ) -> Tensor:
        for block in self.blocks:
            x = executor.run(block, x, condition, mask)
        return x


class TokenRefiner(nn.Module):
    """Language model states to text tokens of model width, conditioned on the timestep and on the mean state."""

    def __init__(self, text_dim: int, width: int, heads: int, depth: int = 2):
        super().__init__()
        self.input_embedder = nn.Linear(text_dim, width)
        self.t_embedder = TimestepEmbedder(width)
        self.c_embedder = TextProjection(text_dim, width)
        self.individual_token_refiner = IndividualTokenRefiner(width, heads, depth)

    def forward(
        self,
        text: Tensor,  # [B, L, text_dim]
        timestep: Tensor,  # [B], 0..1000
        mask: Tensor | None = None,  # [B, L], nonzero = valid, a prefix of each row; None: all valid
        executor: BlockExecutor = PLAIN,
    ) -> Tensor:  # [B, L, D]
        dtype = self.input_embedder.weight.dtype
        mask = None if mask is None else mask != 0
        mean = mean_of_valid(text, mask).to(dtype)
        condition = self.t_embedder(timestep) + self.c_embedder(mean)
        return self.individual_token_refiner(self.input_embedder(text.to(dtype)), condition, mask, executor)


def mean_of_valid(text: Tensor, mask: Tensor | None) -> Tensor:  # [B, L, C], [B, L] bool -> [B, C] fp32 or wider
    """Mean over the valid tokens; 0 where a row has none (the released code divides by zero there)."""
    wide = text if text.dtype == torch.float64 else text.float()
    if mask is None:
        return wide.mean(dim=1)
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(mask[..., None], wide, 0.0).sum(dim=1) / count
