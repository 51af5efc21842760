"""Kernels of HunyuanVideo as Python functions on torch tensors."""

from hunyuan_ext.reference import (
    causal_conv3d,
    fp8_linear,
    gate_residual,
    group_norm_silu,
    layer_norm_modulate,
    quantize_fp8,
    rope_attention,
)

__all__ = ["causal_conv3d", "fp8_linear", "gate_residual", "group_norm_silu", "layer_norm_modulate", "quantize_fp8", "rope_attention"]
