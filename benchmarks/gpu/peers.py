"""Who computes the cases of the GPU table: this package first, then its peers, on the same tensors in the same run.

What a peer may prepare once (weights quantized, tensors transposed to what it likes) is not timed.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

from benchmarks.contenders import Contender
from benchmarks.contenders import contenders as shared_contenders
from benchmarks.gpu import implementations as run
from benchmarks.results import OURS
from hunyuan_ext import reference as spec


def installed(contender: Contender) -> bool:
    try:
        return find_spec(contender.needs) is not None
    except ModuleNotFoundError:  # of the parent package
        return False


CONTENDERS: dict[str, tuple[Contender, ...]] = {
    "attention": (
        Contender(OURS, run.attention_ours),
        run.CUDNN,
        run.FLASH,
        run.FLASH3,
        run.FLASH4,
    ),
    "attention_fp8": (
        Contender(OURS, run.attention_fp8_ours),
        Contender("FA3 fp8", run.flash3_fp8, needs="flash_attn_interface"),
        Contender("SDPA cuDNN bf16", run.CUDNN.prepare),
    ),
    "attention_sparse": (
        Contender(OURS, run.attention_ours),
        Contender("dense SDPA cuDNN", run.CUDNN.prepare),
    ),
    "qk_norm_rope": (
        Contender(OURS, run.norm_rope_ours),
        Contender("torch.compile", run.norm_rope(compile_it=True)),
        Contender("eager", run.norm_rope(compile_it=False)),
    ),
    "rope_attention": (
        *shared_contenders("rope_attention")[:2],
        Contender("torch.compile + SDPA cuDNN", run.compiled_rope_attention),
    ),
    "rope_attention_fp8": (
        Contender(OURS, run.attention_fp8_ours),
        Contender("own norm and rotation, then FP8", run.attention_fp8_two_passes),
        Contender("torch.compile + SDPA cuDNN bf16", run.compiled_rope_attention),
    ),
    "layer_norm_modulate": (
        *shared_contenders("layer_norm_modulate"),
        Contender("torch.compile", run.compiled_reference(spec.layer_norm_modulate)),
    ),
    "gate_residual": (
        *shared_contenders("gate_residual"),
        Contender("torch.compile", run.compiled_reference(spec.gate_residual)),
    ),
    "group_norm_silu": (
        *shared_contenders("group_norm_silu"),
        Contender("torch, contiguous", run.group_norm_contiguous),
        Contender("torch.compile", run.compiled_reference(spec.group_norm_silu)),
    ),
    "fp8_linear": (
        Contender(OURS, run.linear_ours),
        Contender("_scaled_mm rows", run.scaled_layer(run.rowwise)),
        Contender("_scaled_mm tensor", run.scaled_layer(run.tensorwise)),
        Contender("bf16 linear", run.linear_bf16),
    ),
    "fp8_mlp": (
        Contender(OURS, run.mlp_ours),
        Contender("_scaled_mm rows, compiled between", run.mlp_scaled_mm),
        Contender("torch.compile bf16", run.mlp_bf16),
    ),
    "layer_norm_modulate_fp8": (
        Contender(OURS, run.modulate_fp8),
        Contender("torch.compile", run.modulate_then_quantize),
    ),
    "fp8_gemm": (
        Contender(OURS, run.product_ours),
        Contender("_scaled_mm rows", run.scaled_product(run.rowwise)),
        Contender("_scaled_mm rows, slow sums", run.scaled_product(run.rowwise, fast=False)),
        Contender("_scaled_mm tensor", run.scaled_product(run.tensorwise)),
    ),
    "conv3d_padded": (
        Contender(OURS, run.conv_ours),
        Contender("cuDNN", run.conv_cudnn(torch.contiguous_format)),
        Contender("cuDNN channels last", run.conv_cudnn(run.LAST)),
    ),
    "norm_silu_conv3d": (
        Contender(OURS, run.norm_conv_ours),
        Contender("eager", run.norm_conv_torch(torch.contiguous_format)),
        Contender("eager channels last", run.norm_conv_torch(run.LAST)),
        Contender("torch.compile channels last", run.norm_conv_torch(run.LAST, compile_it=True)),
    ),
}
