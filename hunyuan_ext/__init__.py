"""Kernels of HunyuanVideo as Python functions on torch tensors.

Every op exists in `hunyuan_ext.reference` in plain PyTorch (the specification) and natively where that is faster;
`capabilities()` says what was built and what each op would pick on this machine.
"""

from hunyuan_ext import _library  # noqa: F401  (registers torch.ops.hunyuan_ext)
from hunyuan_ext.norm import gate_residual, layer_norm_modulate
from hunyuan_ext.reference import (
    causal_conv3d,
    fp8_linear,
    group_norm_silu,
    quantize_fp8,
    rope_attention,
)

__all__ = [
    "causal_conv3d",
    "fp8_linear",
    "gate_residual",
    "group_norm_silu",
    "layer_norm_modulate",
    "quantize_fp8",
    "rope_attention",
]
