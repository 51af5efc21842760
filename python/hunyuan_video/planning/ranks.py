"""Shares of several ranks in a run, for its plan: tokens, rows of guidance, blocks (distributed/team.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hunyuan_video.models import TransformerConfig

Latent = tuple[int, int, int, int]  # C, T, h, w of one video
COPIES = 12  # of a rank's tokens, while tokens are traded for heads: q, k and v joined, sent, received, and cut


def halves(ranks: int, guided: bool, device: str) -> int:
    """Parts into which the branches of classifier-free guidance go."""
    return 2 if guided and ranks % 2 == 0 and device == "cuda" else 1


def share_of(latent: Latent, config: TransformerConfig, ranks: int) -> Latent:
    """Latents of as many tokens as a rank of `ranks` works on."""
    if ranks == 1:
        return latent
    t, h, w = config.patch_size
    tokens = math.prod(latent[1:]) // (t * h * w)
    return latent[0], t, h, w * max(-(-tokens // ranks), 16)


def exchange_bytes(latent: Latent, config: TransformerConfig, ranks: int, rows: int, text: int, item: int) -> int:
    """Bytes of a trade of tokens for heads, beside the tensors that attention has anyway."""
    if ranks == 1:
        return 0
    tokens = math.prod(share_of(latent, config, ranks)[1:]) // config.patch_volume + text
    heads = -(-config.num_heads // ranks) * ranks
    return COPIES * rows * tokens * heads * config.head_dim * item


def owned_bytes(blocks: Sequence[int], ranks: int) -> int:
    """Bytes of the blocks that one rank keeps, at most."""
    return max(sum(blocks[rank::ranks]) for rank in range(ranks))
