"""Who computes the cases of the GPU table: this package first, then its peers, on the same tensors in the same run.

What a peer may prepare once (weights quantized, tensors transposed to what it likes) is not timed.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

from benchmarks.contenders import Contender
from benchmarks.contenders import contenders as shared_contenders
from benchmarks.gpu import attention_peers as attention
from benchmarks.gpu import layer_peers as layers
from benchmarks.results import OURS
from hunyuan_ext import reference as spec


def installed(contender: Contender) -> bool:
    try:
        return find_spec(contender.needs) is not None
    except ModuleNotFoundError:  # of the parent package
        return False


CONTENDERS: dict[str, tuple[Contender, ...]] = {
    "attention": (
        Contender(OURS, attention.attention_ours),
        attention.CUDNN,
        attention.FLASH,
        attention.FLASH3,
        attention.FLASH4,
    ),
    "attention_fp8": (
        Contender(OURS, attention.attention_fp8_ours),
        Contender("FA3 fp8", attention.flash3_fp8, needs="flash_attn_interface"),
        Contender("SDPA cuDNN bf16", attention.CUDNN.prepare),
    ),
    "attention_sparse": (
        Contender(OURS, attention.attention_ours),
        Contender("dense SDPA cuDNN", attention.CUDNN.prepare),
    ),
    "qk_norm_rope": (
        Contender(OURS, attention.norm_rope_ours),
        Contender("torch.compile", attention.norm_rope(compile_it=True)),
        Contender("eager", attention.norm_rope(compile_it=False)),
    ),
    "rope_attention": (
        *shared_contenders("rope_attention")[:2],
        Contender("torch.compile + SDPA cuDNN", attention.compiled_rope_attention),
    ),
    "rope_attention_fp8": (
        Contender(OURS, attention.attention_fp8_ours),
        Contender("own norm and rotation, then FP8", attention.attention_fp8_two_passes),
        Contender("torch.compile + SDPA cuDNN bf16", attention.compiled_rope_attention),
    ),
    "layer_norm_modulate": (
        *shared_contenders("layer_norm_modulate"),
        Contender("torch.compile", layers.compiled_reference(spec.layer_norm_modulate)),
    ),
    "gate_residual": (
        *shared_contenders("gate_residual"),
        Contender("torch.compile", layers.compiled_reference(spec.gate_residual)),
    ),
    "group_norm_silu": (
        *shared_contenders("group_norm_silu"),
        Contender("torch, contiguous", layers.group_norm_contiguous),
        Contender("torch.compile", layers.compiled_reference(spec.group_norm_silu)),
    ),
    "fp8_linear": (
        Contender(OURS, layers.linear_ours),
        Contender("_scaled_mm rows", layers.scaled_layer(layers.rowwise)),
        Contender("_scaled_mm tensor", layers.scaled_layer(layers.tensorwise)),
        Contender("bf16 linear", layers.linear_bf16),
    ),
    "fp8_mlp": (
        Contender(OURS, layers.mlp_ours),
        Contender("_scaled_mm rows, compiled between", layers.mlp_scaled_mm),
        Contender("torch.compile bf16", layers.mlp_bf16),
    ),
    "layer_norm_modulate_fp8": (
        Contender(OURS, layers.modulate_fp8),
        Contender("torch.compile", layers.modulate_then_quantize),
    ),
    "fp8_gemm": (
        Contender(OURS, layers.product_ours),
        Contender("_scaled_mm rows", layers.scaled_product(layers.rowwise)),
        Contender("_scaled_mm rows, slow sums", layers.scaled_product(layers.rowwise, fast=False)),
        Contender("_scaled_mm tensor", layers.scaled_product(layers.tensorwise)),
    ),
    "conv3d_padded": (
        Contender(OURS, layers.conv_ours),
        Contender("cuDNN", layers.conv_cudnn(torch.contiguous_format)),
        Contender("cuDNN channels last", layers.conv_cudnn(layers.LAST)),
    ),
    "norm_silu_conv3d": (
        Contender(OURS, layers.norm_conv_ours),
        Contender("eager", layers.norm_conv_torch(torch.contiguous_format)),
        Contender("eager channels last", layers.norm_conv_torch(layers.LAST)),
        Contender("torch.compile channels last", layers.norm_conv_torch(layers.LAST, compile_it=True)),
    ),
}
