"""Block linears in int8: weights of one byte, products of int8 rows (W8A8); an option for CPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_ext.core.plain import autocast_enabled
from hunyuan_video.models.fp8 import FP8Linear, fp8_linears


class Int8Linear(nn.Module):
    """Linear of weight * scale on inputs quantized row by row: weight [N, K] int8, scale fp32 [N, 1], bias [N] or None.

    For inference: weight and scale are buffers, without gradient. `.to(dtype)` changes the bias only. Keys: weight,
    scale, bias.
    """

    weight: Tensor
    scale: Tensor

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, device: torch.device | str | None = None
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.empty(out_features, in_features, dtype=torch.int8, device=device))
        self.register_buffer("scale", torch.ones((out_features, 1), dtype=torch.float32, device=device))
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=torch.float32)) if bias else None

    @classmethod
    @torch.no_grad()
    def from_linear(cls, linear: nn.Linear) -> Int8Linear:
        """Quantized copy of a Linear, on its device (the meta device gives the empty module)."""
        out = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        if linear.weight.is_meta:
            out.bias = None if linear.bias is None else nn.Parameter(torch.empty_like(linear.bias))
            return out
        out.weight, out.scale = ops.quantize_int8(linear.weight)
        out.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())
        return out

    def forward(self, x: Tensor) -> Tensor:  # [..., K] -> [..., N]
        device = x.device.type
        if autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        return ops.int8_linear(x, self.weight, self.scale, self.bias_as(x))

    def bias_as(self, x: Tensor) -> Tensor | None:
        """The bias in x's dtype."""
        return None if self.bias is None else self.bias.to(x.dtype)

    def _apply(self, fn, recurse=True):
        scale = self.scale
        super()._apply(fn, recurse)
        if self.scale.dtype != torch.float32:  # a dtype meant for the model; a device change passes
            self.scale = scale.to(self.scale.device)
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def convert_to_int8_modules(model: nn.Module) -> nn.Module:
    """Replaces, in place and one at a time, the linears of all blocks by Int8Linear; returns the model.

    On a CPU the products take 0.4 to 0.7 of the time of bfloat16 (docs/kernels/linear_cpu.md has the errors). The
    result is for sampling.
    """
    for path, linear in list(fp8_linears(model)):
        if isinstance(linear, nn.Linear):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, Int8Linear.from_linear(linear))
    return model


QuantizedLinear = FP8Linear | Int8Linear
"""A linear with weights of one byte and their scales, which nothing can be merged into."""
