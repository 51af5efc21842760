"""Kernels of HunyuanVideo as Python functions on torch tensors.

Every op exists in `hunyuan_ext.reference` in plain PyTorch (the specification) and natively where that is faster;
`capabilities()` says what was built and what each op would pick on this machine, `explain` what one call would run.
"""

from hunyuan_ext import template  # noqa: F401  (registers its op)
from hunyuan_ext.attention import attention_with_lse, rope_attention
from hunyuan_ext.attention.in_place import rope_attention_
from hunyuan_ext.block_mask import BlockMask, tile_order
from hunyuan_ext.capabilities import capabilities
from hunyuan_ext.conv import causal_conv3d, causal_conv3d_moments, pad_causal
from hunyuan_ext.core.dispatch import explain
from hunyuan_ext.core.types import Fp8Rows
from hunyuan_ext.linear import int8_linear, linear, split_gelu
from hunyuan_ext.linear.fp8_linear import fp8_linear, fp8_linear_fp8, layer_norm_modulate_fp8
from hunyuan_ext.linear.quantize import quantize_fp8, quantize_int8
from hunyuan_ext.norm import gate_residual, group_norm_silu, layer_norm_modulate

__all__ = [
    "BlockMask",
    "Fp8Rows",
    "attention_with_lse",
    "capabilities",
    "causal_conv3d",
    "causal_conv3d_moments",
    "explain",
    "fp8_linear",
    "fp8_linear_fp8",
    "gate_residual",
    "group_norm_silu",
    "int8_linear",
    "layer_norm_modulate",
    "layer_norm_modulate_fp8",
    "linear",
    "pad_causal",
    "quantize_fp8",
    "quantize_int8",
    "rope_attention",
    "rope_attention_",
    "split_gelu",
    "tile_order",
]
