"""Every op of the package in plain PyTorch: the specification the kernels are tested against.

Each function takes any floating dtype; called in float64 it is the oracle of the correctness rule. Shapes use
B batch, S sequence, H heads, D head dim, C channels, T frames (latent or pixel), h/w rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext.block_mask import BlockMask
from hunyuan_ext.core.types import Pair, Triple


def template_scale(x: Tensor, factor: float) -> Tensor:  # [N]
    """x * factor: the template op of docs/add_an_op.md."""
    return x * factor


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:  # x: [..., D], weight: [D]
    """x / rms(x) * weight, statistics in at least float32, rounded to x's dtype before the weight (paper model)."""
    wide = x if x.dtype == torch.float64 else x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return normed.to(x.dtype) * weight


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # x: [B, S, H, D], cos/sin: [S, D] fp32
    """Rotary embedding on interleaved pairs (x0, x1) -> (x0 cos - x1 sin, x1 cos + x0 sin), in float32 or wider."""
    wide = x if x.dtype == torch.float64 else x.float()
    cos, sin = cos.to(wide.dtype)[:, None], sin.to(wide.dtype)[:, None]
    turned = torch.stack((-wide[..., 1::2], wide[..., 0::2]), dim=-1).flatten(-2)
    return (wide * cos + turned * sin).to(x.dtype)


def qk_norm_rope(
    x: Tensor,  # [B, S, H, D]
    rope: Pair | None,  # [S - text_len, D] each
    norm: Tensor | None,  # [D]
    text_norm: Tensor | None,  # [D]
    text_len: int,
    eps: float,
) -> Tensor:
    """The pass before attention: RMSNorm of every token, then RoPE on the video tokens only."""
    video, text = x[:, : x.shape[1] - text_len], x[:, x.shape[1] - text_len :]
    if norm is not None:
        video = rms_norm(video, norm, eps)
        text = rms_norm(text, norm if text_norm is None else text_norm, eps)
    if rope is not None:
        video = rotate_pairs(video, *rope)
    return torch.cat((video, text), dim=1) if text_len else video


def attention_with_lse(
    q: Tensor,  # [B, Q, H, D]
    k: Tensor,  # [B, K, H, D]
    v: Tensor,  # [B, K, H, D]
    *,
    kv_len: Tensor | None = None,  # [B] int
    scale: float | None = None,
    block_mask: BlockMask | None = None,
) -> Pair:  # [B, Q, H, D], [B, H, Q] in at least float32
    """Softmax attention and the logarithm of each row's sum of exponentials; zeros and -inf for a row without keys."""
    wide = q.dtype if q.dtype == torch.float64 else torch.float32
    scores = torch.einsum("bqhd,bkhd->bhqk", q.to(wide), k.to(wide)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if block_mask is not None:
        scores = scores.masked_fill(~block_mask.dense(q.shape[1], k.shape[1]).to(q.device), -torch.inf)
    if kv_len is not None:
        keys = torch.arange(k.shape[1], device=q.device)
        scores = scores.masked_fill((keys >= kv_len.to(q.device)[:, None])[:, None, None], -torch.inf)
    lse = scores.logsumexp(-1)
    weights = (scores - lse.masked_fill(lse == -torch.inf, 0)[..., None]).exp()
    return torch.einsum("bhqk,bkhd->bqhd", weights, v.to(wide)).to(v.dtype), lse


def rope_attention(
    q: Tensor,  # [B, S, H, D]
    k: Tensor,  # [B, S, H, D]
    v: Tensor,  # [B, S, H, D]
    *,
    rope: Pair | None = None,  # cos, sin: [S - text_len, D]
    q_norm: Tensor | None = None,  # [D]
    k_norm: Tensor | None = None,  # [D]
    text_len: int = 0,
    text_norms: Pair | None = None,  # [D] each
    kv_len: Tensor | None = None,  # [B]
    eps: float = 1e-6,
    scale: float | None = None,
    block_mask: BlockMask | None = None,
    precision: str = "auto",
) -> Tensor:  # [B, S, H, D]
    """Softmax attention over [video | text] tokens after QK-RMSNorm and RoPE; see `hunyuan_ext.rope_attention`."""
    text_q, text_k = text_norms if text_norms is not None else (None, None)
    q = qk_norm_rope(q, rope, q_norm, text_q, text_len, eps).to(v.dtype)
    k = qk_norm_rope(k, rope, k_norm, text_k, text_len, eps).to(v.dtype)
    bias = None
    if kv_len is not None:
        keys = torch.arange(k.shape[1], device=k.device)
        bias = (keys < kv_len.to(k.device)[:, None])[:, None, None]  # [B, 1, 1, S]
    if block_mask is not None:
        allowed = block_mask.dense(q.shape[1], k.shape[1]).to(q.device)
        bias = allowed if bias is None else bias & allowed
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), bias, scale=scale)
    return out.transpose(1, 2)


def pad_causal(x: Tensor, pad: Triple) -> Tensor:  # [B, C, T, h, w]
    """Replicate padding: pad[0] frames in front and none behind, pad[1] rows and pad[2] columns on both sides."""
    return F.pad(x, (pad[2], pad[2], pad[1], pad[1], pad[0], 0), mode="replicate") if any(pad) else x


def causal_conv3d(
    x: Tensor,  # [B, C, T, h, w]
    weight: Tensor,  # [N, C, kt, kh, kw]
    bias: Tensor | None = None,  # [N]
    *,
    stride: Triple = (1, 1, 1),
    residual: Tensor | None = None,
    padded: bool = False,
) -> Tensor:
    """Causal 3D convolution (paper section 4.1): a frame sees only itself and earlier frames."""
    if not padded:
        x = pad_causal(x, (weight.shape[2] - 1, weight.shape[3] // 2, weight.shape[4] // 2))
    out = F.conv3d(x, weight, bias, stride)
    return out if residual is None else out + residual


def group_norm_silu(
    x: Tensor,  # [B, C, T, h, w]
    weight: Tensor | None,  # [C]
    bias: Tensor | None,  # [C]
    *,
    groups: int = 32,
    eps: float = 1e-6,
    silu: bool = True,
    pad: Triple = (0, 0, 0),
) -> Tensor:
    """GroupNorm over (C / groups, T, h, w), SiLU, and the replicate padding of the next causal convolution."""
    out = torch.group_norm(x, groups, weight, bias, eps)  # F.group_norm refuses groups of a single value
    return pad_causal(F.silu(out) if silu else out, pad)


def layer_norm_modulate(
    x: Tensor,  # [B, S, C]
    shift: Tensor,  # [B, C]
    scale: Tensor,  # [B, C]
    *,
    eps: float = 1e-6,
) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift without affine weights: the adaLN of a DiT block."""
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale[:, None]) + shift[:, None]


def gate_residual(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:  # [B, S, C], [B, S, C], [B, C]
    """x + gate * y: the gated residual of a DiT block."""
    return x + gate[:, None] * y


def quantize_fp8(
    w: Tensor,  # [N, K]
    *,
    granularity: str = "row",
    dtype: torch.dtype = torch.float8_e4m3fn,
    block: int = 128,
) -> Pair:
    """Symmetric FP8 quantization, scale = amax / max(dtype); returns (w8, scale) with w ~ w8 * scale.

    scale is fp32: [N, 1] for "row", [] for "tensor", [ceil(N / block), ceil(K / block)] for "block".
    """
    top = torch.finfo(dtype).max
    wide = w.float()
    if granularity == "block":
        rows, cols = -(-w.shape[0] // block), -(-w.shape[1] // block)
        tiles = F.pad(wide, (0, cols * block - w.shape[1], 0, rows * block - w.shape[0]))
        amax = tiles.view(rows, block, cols, block).abs().amax((1, 3))
    else:
        amax = wide.abs().amax(-1, keepdim=True) if granularity == "row" else wide.abs().amax()
    scale = torch.where(amax > 0, amax / top, torch.ones_like(amax))
    return (wide / expand_scale(scale, w.shape, block)).clamp(-top, top).to(dtype), scale


def expand_scale(scale: Tensor, shape: Sequence[int], block: int = 128) -> Tensor:
    """A row, tensor or block scale, broadcastable to the weight's [N, K]."""
    if scale.ndim == 2 and scale.shape[1] == 1 and scale.shape[0] == shape[0]:
        return scale
    if scale.ndim == 2:
        return scale.repeat_interleave(block, 0)[: shape[0]].repeat_interleave(block, 1)[:, : shape[1]]
    return scale


def linear(
    x: Tensor | Sequence[Tensor],  # [..., K], or two of them, side by side
    weight: Tensor,  # [N, K]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
    activation_from: int = 0,
    gate: Tensor | None = None,  # [B, N]
    residual: Tensor | None = None,  # [..., N]
) -> Tensor:
    """residual + gate * act(x @ weight.T + bias), act on the columns from activation_from on."""
    out = F.linear(x if isinstance(x, Tensor) else torch.cat(tuple(x), -1), weight, bias)
    return linear_epilogue(out, activation, activation_from, gate, residual)


def linear_epilogue(
    out: Tensor,  # [..., N]
    activation: str | None,
    activation_from: int,
    gate: Tensor | None,  # [B, N]
    residual: Tensor | None,  # [..., N]
) -> Tensor:
    """residual + gate * act(out)."""
    if activation == "gelu_tanh":
        head, tail = out[..., :activation_from], F.gelu(out[..., activation_from:], approximate="tanh")
        out = torch.cat((head, tail), -1) if activation_from else tail
    if gate is not None:
        out = gate[:, None] * out
    return out if residual is None else residual + out


def fp8_linear(
    x: Tensor,  # [..., K]
    w8: Tensor,  # [N, K]
    scale: Tensor,  # [], [N, 1] or [N / 128, K / 128]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
    gate: Tensor | None = None,  # [B, N]
    residual: Tensor | None = None,  # [..., N]
    activation_quant: str = "dynamic_row",
) -> Tensor:
    """residual + gate * act(x @ (w8 * scale).T + bias), the weight widened to x's dtype (weight-only FP8)."""
    weight = w8.to(x.dtype) * expand_scale(scale, w8.shape).to(x.dtype)
    return linear(x, weight, bias, activation=activation, gate=gate, residual=residual)


def quantize_int8(w: Tensor) -> Pair:  # [..., K] -> int8 [..., K], fp32 (or wider) [..., 1]
    """Symmetric int8 quantization of rows to nearest even, scale = amax / 127; an all-zero row has scale 1."""
    wide = w if w.dtype == torch.float64 else w.float()
    amax = wide.abs().amax(-1, keepdim=True) if w.shape[-1] else wide.new_zeros((*w.shape[:-1], 1))
    scale = torch.where(amax == 0, torch.ones_like(amax), amax / 127)
    return (wide / scale).round().clamp(-127, 127).to(torch.int8), scale


def int8_linear(
    x: Tensor,  # [..., K]
    w8: Tensor,  # [N, K] int8
    scale: Tensor,  # [N, 1]
    bias: Tensor | None = None,  # [N]
    *,
    activation: str | None = None,
    activation_from: int = 0,
    gate: Tensor | None = None,  # [B, N]
    residual: Tensor | None = None,  # [..., N]
) -> Tensor:
    """residual + gate * act(q(x) @ (w8 * scale).T + bias), q the int8 quantization of each row of x."""
    q, x_scale = quantize_int8(x)
    wide = x_scale.dtype
    out = F.linear(q.to(wide), w8.to(wide)) * x_scale * scale.to(wide).T
    out = out if bias is None else out + bias
    return linear_epilogue(out.to(x.dtype), activation, activation_from, gate, residual)
