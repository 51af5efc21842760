"""diffusers' transformer blocks with our arithmetic: subclasses of its own, on the same modules and weights.

Each takes the place of a block's class, and keeps its name, for libraries that choose blocks by it. Linear layers that
are not plain (LoRA, quantized weights, hooks) are called as they are. Where anything else in a block is not what
diffusers made, the block runs diffusers' own forward: an attention processor or backend of the user's, offloading leaf
by leaf, caches of attention.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.hooks._helpers import TransformerBlockRegistry
from diffusers.models import attention, normalization
from diffusers.models.activations import GELU
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers import transformer_hunyuan_video as theirs
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_video.checkpoints.keys import module_templates
from hunyuan_video.models.plain import is_plain
from hunyuan_video.models.transformer.linear import linear, linear_pair
from hunyuan_video.models.transformer.modulation import Vector, chunks, gated_linear, modulated_spans

Rope = tuple[Tensor, Tensor]  # cos, sin: each [S, head_dim] fp32
DOUBLE, SINGLE = "transformer_blocks.{}.", "single_transformer_blocks.{}."
# Parts of a block that our arithmetic stands for; they must be what they seem.
REPLACED: tuple[type, ...] = (nn.ModuleList, nn.LayerNorm, nn.SiLU, nn.Dropout, nn.GELU, GELU, Attention)
REPLACED += (attention.FeedForward, normalization.AdaLayerNormZero, normalization.AdaLayerNormZeroSingle)
REPLACED += (normalization.RMSNorm, theirs.HunyuanVideoTokenReplaceAdaLayerNormZero)
REPLACED += (theirs.HunyuanVideoTokenReplaceAdaLayerNormZeroSingle,)


def _linears(prefix: str) -> frozenset[str]:
    """Paths of the linear layers within a block."""
    paths = (path for names in module_templates().values() for path in names if path.startswith(prefix))
    return frozenset(path.removeprefix(prefix) for path in paths if ".norm_" not in path)


LINEARS = {DOUBLE: _linears(DOUBLE), SINGLE: _linears(SINGLE)}


def is_ours_to_run(block: Any, linears: frozenset[str], mask: Tensor | None) -> bool:
    """True if our arithmetic gives what a block's own forward gives: all but its linear layers is as diffusers made it.

    mask: bool [B, 1, 1, keys], the keys that count first, as diffusers' models of this family make it; or None.
    """
    if mask is not None and (mask.dtype != torch.bool or mask.ndim != 4 or mask.shape[1:3] != (1, 1)):
        return False
    processor = block.attn.processor
    if type(processor) is not theirs.HunyuanVideoAttnProcessor2_0:
        return False
    if any(getattr(processor, name) is not None for name in ("_attention_backend", "_parallel_config")):
        return False
    return _as_made(block, "", linears)


def _as_made(module: nn.Module, path: str, linears: frozenset[str]) -> bool:
    for name, child in module._modules.items():
        if child is None or path + name in linears:
            continue
        if not is_plain(child, *REPLACED) or not _as_made(child, f"{path}{name}.", linears):
            return False
        if type(child) is nn.Dropout and child.p and child.training:
            return False
    return True


def valid_text(
    txt: Tensor,  # [B, L, D]
    mask: Tensor | None,  # [B, 1, 1, S + L] bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The text up to the longest prompt of the batch, what follows, which influences nothing, and the mask for it.

    Reads the mask's values: on a GPU that would stall the host in every block, so there the padding stays, skipped.
    """
    if mask is None or mask.device.type != "cpu" or torch.compiler.is_compiling():
        return txt, txt[:, :0], mask
    video = mask.shape[-1] - txt.shape[1]
    longest = max(int(mask[:, 0, 0].sum(dim=-1).max()) - video, 1)
    return txt[:, :longest], txt[:, longest:], mask[..., : video + longest]


def key_counts(mask: Tensor | None) -> Tensor | None:  # [B, 1, 1, keys] bool -> [B] int32
    return None if mask is None else mask[:, 0, 0].sum(dim=-1, dtype=torch.int32)


def vectors_of(
    norm: Any,
    count: int,
    temb: Tensor,  # [B, D]
    first_tokens: int | None = 0,
    first: Tensor | None = None,  # [B, D], the condition of the first tokens
) -> Sequence[Vector]:
    """Shift, scale and gate vectors [B, D] of an adaptive norm."""
    first_vectors = None if first is None else norm.linear(F.silu(first))
    return chunks(norm.linear(F.silu(temb)), count, first_tokens or 0, first_vectors)


def joint_attention(
    attn: Any,
    q: Tensor,  # [B, S + L, D], video then text
    k: Tensor,
    v: Tensor,
    text_len: int,
    rope: Rope | None,
    mask: Tensor | None,  # [B, 1, 1, S + L] bool
) -> Tensor:  # [B, S + L, D]
    q, k, v = (x.unflatten(-1, (attn.heads, -1)) for x in (q, k, v))
    of_text = None if attn.add_q_proj is None else (attn.norm_added_q.weight, attn.norm_added_k.weight)
    out = ops.rope_attention(
        q, k, v, rope=rope, q_norm=attn.norm_q.weight, k_norm=attn.norm_k.weight, text_len=text_len,
        text_norms=of_text, kv_len=key_counts(mask), eps=attn.norm_q.eps,
    )  # fmt: skip
    return out.flatten(2)


def double(
    block: Any,
    img: Tensor,  # [B, S, D]
    txt: Tensor,  # [B, L, D]
    temb: Tensor,  # [B, D]
    mask: Tensor | None,  # [B, 1, 1, S + L] bool
    rope: Rope | None,
    first: Tensor | None = None,  # [B, D]
    first_tokens: int | None = 0,
) -> tuple[Tensor, Tensor]:
    attn = block.attn
    txt, padding, mask = valid_text(txt, mask)
    shift1, scale1, gate1, shift2, scale2, gate2 = vectors_of(block.norm1, 6, temb, first_tokens, first)
    txt_shift1, txt_scale1, txt_gate1, txt_shift2, txt_scale2, txt_gate2 = vectors_of(block.norm1_context, 6, temb)
    normed = (
        modulated_spans(img, shift1, scale1, attn.to_q),
        modulated_spans(txt, txt_shift1, txt_scale1, attn.add_q_proj),
    )
    q = linear_pair((attn.to_q, attn.add_q_proj), normed)
    k = linear_pair((attn.to_k, attn.add_k_proj), normed)
    v = linear_pair((attn.to_v, attn.add_v_proj), normed)
    attended = joint_attention(attn, q, k, v, txt.shape[1], rope, mask)
    img_attended, txt_attended = attended.split((img.shape[1], txt.shape[1]), dim=1)
    img = gated_linear(attn.to_out[0], img_attended, gate1, img)
    img = feed_forward(block.ff, modulated_spans(img, shift2, scale2, block.ff.net[0].proj), gate2, img)
    txt = gated_linear(attn.to_add_out, txt_attended, txt_gate1, txt)
    reader = block.ff_context.net[0].proj
    txt = feed_forward(block.ff_context, modulated_spans(txt, txt_shift2, txt_scale2, reader), txt_gate2, txt)
    return img, with_padding(txt, padding)


def with_padding(txt: Tensor, padding: Tensor) -> Tensor:  # [B, L', D], [B, L - L', D] -> [B, L, D]
    return torch.cat((txt, padding), dim=1) if padding.shape[1] else txt


def feed_forward(ff: Any, x: Any, gate: Vector, residual: Tensor) -> Tensor:  # [B, S, D]
    return gated_linear(ff.net[2], linear(ff.net[0].proj, x, gelu=True), gate, residual)


def single(
    block: Any,
    img: Tensor,  # [B, S, D]; all as in `double`
    txt: Tensor,
    temb: Tensor,
    mask: Tensor | None,
    rope: Rope | None,
    first: Tensor | None = None,
    first_tokens: int | None = 0,
) -> tuple[Tensor, Tensor]:
    txt, padding, mask = valid_text(txt, mask)
    attn, length, text_len = block.attn, img.shape[1], txt.shape[1]
    x = torch.cat((img, txt), dim=1)
    shift, scale, gate = vectors_of(block.norm, 3, temb, first_tokens, first)
    normed = modulated_spans(x, shift, scale, attn.to_q)
    q, k, v = (linear(part, normed) for part in (attn.to_q, attn.to_k, attn.to_v))
    hidden = linear(block.proj_mlp, normed, gelu=True)
    attended = joint_attention(attn, q, k, v, text_len, rope, mask)
    x = gated_linear(block.proj_out, (attended, hidden), gate, x)
    return x[:, :length], with_padding(x[:, length:], padding)


class _Double:
    """Forward of dual-stream blocks, in front of diffusers' class."""

    def forward(
        self,
        hidden_states: Tensor,  # [B, S, D]
        encoder_hidden_states: Tensor,  # [B, L, D]
        temb: Tensor,  # [B, D]
        attention_mask: Tensor | None = None,  # [B, 1, 1, S + L] bool
        freqs_cis: Rope | None = None,
        token_replace_emb: Tensor | None = None,  # [B, D]; None in blocks without token replacement
        num_tokens: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        given = hidden_states, encoder_hidden_states, temb, attention_mask, freqs_cis, token_replace_emb, num_tokens
        ours = is_ours_to_run(self, LINEARS[DOUBLE], attention_mask)
        return double(self, *given) if ours else super().forward(*given)  # type: ignore[misc]


class _Single:
    """Forward of single-stream blocks, in front of diffusers' class."""

    def forward(
        self,
        hidden_states: Tensor,  # [B, S, D]; all as in `_Double`
        encoder_hidden_states: Tensor,
        temb: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rope | None = None,
        token_replace_emb: Tensor | None = None,
        num_tokens: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        given = (
            hidden_states, encoder_hidden_states, temb, attention_mask, image_rotary_emb, token_replace_emb, num_tokens
        )  # fmt: skip
        ours = is_ours_to_run(self, LINEARS[SINGLE], attention_mask)
        return single(self, *given) if ours else super().forward(*given)  # type: ignore[misc]


class DoubleBlock(_Double, theirs.HunyuanVideoTransformerBlock):
    """diffusers' dual-stream block."""


class SingleBlock(_Single, theirs.HunyuanVideoSingleTransformerBlock):
    """diffusers' single-stream block."""


class TokenReplaceDoubleBlock(_Double, theirs.HunyuanVideoTokenReplaceTransformerBlock):
    """diffusers' dual-stream block of image-to-video by token replacement."""


class TokenReplaceSingleBlock(_Single, theirs.HunyuanVideoTokenReplaceSingleTransformerBlock):
    """diffusers' single-stream block of image-to-video by token replacement."""


BLOCKS: tuple[Any, ...] = (DoubleBlock, SingleBlock, TokenReplaceDoubleBlock, TokenReplaceSingleBlock)
for _kind in BLOCKS:
    _theirs = _kind.__bases__[-1]
    _kind.__name__ = _theirs.__name__  # chosen by name: compile_repeated_blocks, FSDP, device maps
    TransformerBlockRegistry.register(_kind, copy.copy(TransformerBlockRegistry.get(_theirs)))
