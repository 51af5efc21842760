"""The two kinds of transformer block (paper section 4.2, figure 8): dual stream, then single stream.

Token order everywhere: video first, text last. `rope` is the pair (cos, sin) of the video tokens, `kv_len` the number
of valid tokens of each sample (video and unpadded text) or None when no token is padding. `modulation` is what
`modulate` makes of `vec`; given, `vec` is not read. (Blocks call it themselves in training: a sharded block gathers its
weights for its own forward only.) `first` stands for `vec`, or for the video's modulation where one is given, at the
`first_tokens` video tokens that come first: those of the clean frame in image-to-video.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_video.models.transformer.chunks import Heads, border, normed, project_all, spans
from hunyuan_video.models.transformer.config import TransformerConfig
from hunyuan_video.models.transformer.executor import PLAIN, Attention, BlockExecutor
from hunyuan_video.models.transformer.linear import (
    Part,
    columns,
    fp8_hidden,
    linear,
    linear_and_gelu,
    linear_pair,
    modulated,
)
from hunyuan_video.models.transformer.modulation import (
    Modulation,
    SplitVector,
    Vector,
    chunks,
    gated_linear,
    modulated_spans,
    near,
)

Rope = tuple[Tensor, Tensor]  # cos, sin: each [S_video, head_dim] fp32


class HeadNorm(nn.Module):
    """The RMSNorm weight of queries or keys; the attention op applies it."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))


def head_weight(norm: nn.Module) -> Tensor:  # [head_dim]
    """The weight of a HeadNorm. TypeError where something hangs on it that a call would run: there is none."""
    if norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks:
        raise TypeError(
            "hooks on the norm of queries or keys are never called: attention applies its weight; remove them"
        )
    weight = norm._parameters.get("weight")
    return cast(Tensor, norm.weight if weight is None else weight)


def parts_of(module: nn.Module) -> dict[str, Any]:
    """Children of a module; for many short calls nn.Module's own way to one takes longer than a small kernel."""
    return module._modules


def heads_of(qkv: Tensor, heads: int) -> tuple[Tensor, ...]:  # [B, S, 3 D] -> three of [B, S, heads, D / heads]
    """Views of queries, keys and values."""
    return qkv.view(*qkv.shape[:2], 3, heads, -1).unbind(2)


class MLP(nn.Module):
    """Linear, tanh-GELU, Linear; keys fc1 and fc2."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(
        self,
        x: Part,  # [B, S, D]
        gate: Vector | None = None,  # [B, D]
        residual: Tensor | None = None,  # [B, S, D]
        out: Tensor | None = None,  # [B, S, D], where no gradient is wanted
    ) -> Tensor:
        """residual + gate * fc2(gelu(fc1(x)))."""
        fc1, fc2 = parts_of(self)["fc1"], parts_of(self)["fc2"]
        hidden = None if isinstance(gate, SplitVector) else fp8_hidden(fc1, x, fc2)
        if hidden is None:
            hidden = linear(fc1, x, gelu=True)
        if out is not None and not isinstance(gate, SplitVector):
            return linear(fc2, hidden, gate=gate, residual=residual, out=out)
        return gated_linear(fc2, hidden, gate, residual)


class DoubleBlock(nn.Module):
    """Video and text with weights of their own, joined in one attention."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        width, hidden, bias = config.hidden_size, config.mlp_width, config.qkv_bias
        self.heads, self.attention_precision = config.num_heads, "auto"
        self.img_mod = Modulation(width, 6)
        self.img_attn_qkv = nn.Linear(width, 3 * width, bias=bias)
        self.img_attn_q_norm = HeadNorm(config.head_dim)
        self.img_attn_k_norm = HeadNorm(config.head_dim)
        self.img_attn_proj = nn.Linear(width, width, bias=bias)
        self.img_mlp = MLP(width, hidden)
        self.txt_mod = Modulation(width, 6)
        self.txt_attn_qkv = nn.Linear(width, 3 * width, bias=bias)
        self.txt_attn_q_norm = HeadNorm(config.head_dim)
        self.txt_attn_k_norm = HeadNorm(config.head_dim)
        self.txt_attn_proj = nn.Linear(width, width, bias=bias)
        self.txt_mlp = MLP(width, hidden)

    def forward(
        self,
        img: Tensor,  # [B, S, D]
        txt: Tensor,  # [B, L, D]
        vec: Tensor,  # [B, D], not read with modulation
        rope: Rope,
        kv_len: Tensor | None,  # [B]
        modulation: tuple[Tensor, Tensor] | None = None,  # [B, 6 D] each
        first_tokens: int = 0,
        first: Tensor | None = None,  # [B, D], with modulation [B, 6 D]
        executor: BlockExecutor = PLAIN,
    ) -> tuple[Tensor, Tensor]:
        return executor.inside(self, img, txt, vec, rope, kv_len, modulation, first_tokens, first, executor.attention)

    def compute(
        self,
        img: Tensor,  # [B, S, D]; all as in `forward`
        txt: Tensor,
        vec: Tensor,
        rope: Rope,
        kv_len: Tensor | None,
        modulation: tuple[Tensor, Tensor] | None,
        first_tokens: int,
        first: Tensor | None,
        attention: Attention,
        size: int | None = None,  # of a part of the tokens
    ) -> tuple[Tensor, Tensor]:
        img_mod, txt_mod = self.modulate(vec) if modulation is None else modulation
        first_mod = self.img_mod(first) if first is not None and modulation is None else first
        vectors = chunks(img_mod, 6, first_tokens, first_mod), txt_mod.chunk(6, dim=-1)
        settings = self.attention_settings(txt.shape[1], rope, kv_len)
        if size is None:
            return self.whole(img, txt, vectors, attention, settings)
        return self.in_parts(img, txt, vectors, attention, settings, size)

    def whole(
        self,
        img: Tensor,  # [B, S, D]
        txt: Tensor,  # [B, L, D]
        vectors: tuple[Sequence[Vector], Sequence[Tensor]],  # of video and text: shift, scale, gate; those of the MLP
        attention: Attention,
        settings: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        (img_shift1, img_scale1, img_gate1, img_shift2, img_scale2, img_gate2), txt_vectors = vectors
        txt_shift1, txt_scale1, txt_gate1, txt_shift2, txt_scale2, txt_gate2 = txt_vectors
        parts = parts_of(self)
        img_qkv, txt_qkv, img_mlp, txt_mlp = (
            parts[name] for name in ("img_attn_qkv", "txt_attn_qkv", "img_mlp", "txt_mlp")
        )
        normed = (
            modulated_spans(img, img_shift1, img_scale1, img_qkv),
            modulated(txt, txt_shift1, txt_scale1, txt_qkv),
        )
        q, k, v = heads_of(linear_pair((img_qkv, txt_qkv), normed), self.heads)
        attended = attention(q, k, v, **settings).flatten(2)
        img_attended, txt_attended = attended.split_with_sizes((img.shape[1], txt.shape[1]), dim=1)

        img = gated_linear(parts["img_attn_proj"], img_attended, img_gate1, img)
        img = img_mlp(modulated_spans(img, img_shift2, img_scale2, parts_of(img_mlp)["fc1"]), img_gate2, img)
        txt = linear(parts["txt_attn_proj"], txt_attended, gate=txt_gate1, residual=txt)
        txt = txt_mlp(modulated(txt, txt_shift2, txt_scale2, parts_of(txt_mlp)["fc1"]), txt_gate2, txt)
        return img, txt

    def in_parts(
        self,
        img: Tensor,  # [B, S, D]; all as in `whole`
        txt: Tensor,
        vectors: tuple[Sequence[Vector], Sequence[Tensor]],
        attention: Attention,
        settings: dict[str, Any],
        size: int,
    ) -> tuple[Tensor, Tensor]:
        """`whole` without a gradient, all but attention a part of the tokens at a time (chunks.py)."""
        img_vectors, txt_vectors = vectors
        (batch, video, width), text = img.shape, txt.shape[1]
        heads = Heads(batch, video + text, self.heads, width, like=img)
        project_all(heads, self.img_attn_qkv, img, img_vectors[:2], size)
        project_all(heads, self.txt_attn_qkv, txt, txt_vectors[:2], size, offset=video)
        attended = heads.attend(attention, **settings)
        img_attended, txt_attended = attended.split((video, text), dim=1)
        img = self.after(img, img_attended, self.img_attn_proj, self.img_mlp, img_vectors[2:], size)
        txt = self.after(txt, txt_attended, self.txt_attn_proj, self.txt_mlp, txt_vectors[2:], size)
        return img, txt

    def after(
        self,
        x: Tensor,  # [B, S, D], video or text
        attended: Tensor,  # [B, S, D]
        proj: nn.Module,
        mlp: MLP,
        vectors: Sequence[Vector],  # gate; shift, scale, gate of the MLP
        size: int,
    ) -> Tensor:  # [B, S, D]
        """All that follows attention, a part at a time."""
        gate1, shift2, scale2, gate2 = vectors
        out = torch.empty_like(x)
        for span in spans(x, size, border(gate1)):
            part = linear(proj, span.of(attended), gate=span.vector(gate1), residual=span.of(x))
            reader = modulated(part, span.vector(shift2), span.vector(scale2), mlp.fc1)
            mlp(reader, span.vector(gate2), part, out=span.of(out))
        return out

    def modulate(self, vec: Tensor) -> tuple[Tensor, Tensor]:  # [..., D] -> video and text, [..., 6 D] each
        parts = parts_of(self)
        return parts["img_mod"](vec), parts["txt_mod"](vec)

    def attention_settings(self, text_len: int, rope: Rope, kv_len: Tensor | None) -> dict[str, Any]:
        parts = parts_of(self)
        return {
            "rope": rope,
            "q_norm": head_weight(parts["img_attn_q_norm"]),
            "k_norm": head_weight(parts["img_attn_k_norm"]),
            "text_norms": (head_weight(parts["txt_attn_q_norm"]), head_weight(parts["txt_attn_k_norm"])),
            "text_len": text_len,
            "kv_len": kv_len,
            "precision": self.attention_precision,
        }


class SingleBlock(nn.Module):
    """Video and text as one sequence; attention and MLP side by side between two fused projections."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        width, hidden = config.hidden_size, config.mlp_width
        self.heads, self.attention_precision = config.num_heads, "auto"
        self.widths = (3 * width, hidden)
        self.modulation = Modulation(width, 3)
        self.linear1 = nn.Linear(width, 3 * width + hidden)
        self.linear2 = nn.Linear(width + hidden, width)
        self.q_norm = HeadNorm(config.head_dim)
        self.k_norm = HeadNorm(config.head_dim)

    def forward(
        self,
        x: Tensor,  # [B, S + L, D]
        vec: Tensor,  # [B, D], not read with modulation
        rope: Rope,
        text_len: int,
        kv_len: Tensor | None,  # [B]
        modulation: Tensor | None = None,  # [B, 3 D]
        first_tokens: int = 0,
        first: Tensor | None = None,  # [B, D], with modulation [B, 3 D]
        executor: BlockExecutor = PLAIN,
    ) -> Tensor:
        return executor.inside(
            self, x, vec, rope, text_len, kv_len, modulation, first_tokens, first, executor.attention
        )

    def compute(
        self,
        x: Tensor,  # [B, S + L, D]; all as in `forward`
        vec: Tensor,
        rope: Rope,
        text_len: int,
        kv_len: Tensor | None,
        modulation: Tensor | None,
        first_tokens: int,
        first: Tensor | None,
        attention: Attention,
        size: int | None = None,  # of a part of the tokens
    ) -> Tensor:
        first_modulation = self.modulate(first) if first is not None and modulation is None else first
        all_tokens = self.modulate(vec) if modulation is None else modulation
        vectors = chunks(all_tokens, 3, first_tokens, first_modulation)
        settings = self.attention_settings(text_len, rope, kv_len)
        if size is None:
            return self.whole(x, vectors, attention, settings)
        return self.in_parts(x, vectors, attention, settings, size)

    def whole(
        self,
        x: Tensor,  # [B, S + L, D]
        vectors: Sequence[Vector],  # shift, scale, gate
        attention: Attention,
        settings: dict[str, Any],
    ) -> Tensor:
        shift, scale, gate = vectors
        linear1, linear2 = parts_of(self)["linear1"], parts_of(self)["linear2"]
        normed = modulated_spans(x, shift, scale, linear1)
        qkv, mlp = linear_and_gelu(linear1, normed, self.widths[0], linear2)
        q, k, v = heads_of(qkv, self.heads)
        attended = attention(q, k, v, **settings)
        return gated_linear(linear2, (attended.flatten(2), mlp), gate, x)

    def in_parts(
        self,
        x: Tensor,  # [B, S + L, D]; all as in `whole`
        vectors: Sequence[Vector],
        attention: Attention,
        settings: dict[str, Any],
        size: int,
    ) -> Tensor:
        """`whole` without a gradient, all but attention a part of the tokens at a time (chunks.py)."""
        shift, scale, gate = vectors
        heads = Heads(x.shape[0], x.shape[1], self.heads, x.shape[2], like=x)
        kept = project_all(heads, self.linear1, x, (shift, scale), size)
        attended = heads.attend(attention, **settings)
        out = torch.empty_like(x)
        for span in spans(x, size, border(gate)):
            if kept:
                hidden: Part = ops.split_gelu(kept.pop(0), 0)[1]
            else:
                part, all_columns = normed(x, span, shift, scale, self.linear1), sum(self.widths)
                hidden = columns(self.linear1, part, self.widths[0], all_columns, gelu=True, reader=self.linear2)
            inputs = span.of(attended), hidden
            linear(self.linear2, inputs, gate=span.vector(gate), residual=span.of(x), out=span.of(out))
        return out

    def attention_settings(self, text_len: int, rope: Rope, kv_len: Tensor | None) -> dict[str, Any]:
        parts = parts_of(self)
        return {
            "rope": rope,
            "q_norm": head_weight(parts["q_norm"]),
            "k_norm": head_weight(parts["k_norm"]),
            "text_len": text_len,
            "kv_len": kv_len,
            "precision": self.attention_precision,
        }

    def modulate(self, vec: Tensor) -> Tensor:  # [..., D] -> [..., 3 D]
        return parts_of(self)["modulation"](vec)


class FinalLayer(nn.Module):
    """adaLN (shift, scale) and the projection of a token to its patch of velocity."""

    def __init__(self, width: int, out_features: int):
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.linear = nn.Linear(width, out_features)

    def forward(
        self,
        x: Tensor,  # [B, S, D]
        vec: Tensor,  # [B, D], not read with modulation
        modulation: Tensor | None = None,  # [B, 2 D]
    ) -> Tensor:  # [B, S, patch volume * C]
        shift, scale = (self.modulate(vec) if modulation is None else modulation).chunk(2, dim=-1)
        return self.linear(ops.layer_norm_modulate(x, shift, scale))

    def modulate(self, vec: Tensor) -> Tensor:  # [..., D] -> [..., 2 D]
        return near(self.adaLN_modulation, vec.device)(vec)
