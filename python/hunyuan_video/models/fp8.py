"""Block linears with FP8 weights, as the released FP8 checkpoint stores them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_ext.core.plain import autocast_enabled

FP8 = torch.float8_e4m3fn
BLOCK_LISTS = ("double_blocks", "single_blocks")


class FP8Linear(nn.Module):
    """Linear of weight * scale: weight [N, K] float8_e4m3fn, scale fp32 [N, 1] (row) or [] (tensor), bias [N] or None.

    For inference: weight and scale are buffers, without gradient. `.to(dtype)` changes the bias only, never the weight
    or the scale. Keys: weight, scale, bias.
    """

    weight: Tensor
    scale: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        granularity: str = "row",
        device: torch.device | str | None = None,
    ):
        super().__init__()
        if granularity not in ("row", "tensor"):
            raise ValueError(f"granularity must be 'row' or 'tensor', got {granularity!r}")
        self.in_features, self.out_features = in_features, out_features
        scale_shape = (out_features, 1) if granularity == "row" else ()
        self.register_buffer("weight", torch.empty(out_features, in_features, dtype=FP8, device=device))
        self.register_buffer("scale", torch.ones(scale_shape, dtype=torch.float32, device=device))
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=torch.float32)) if bias else None

    @classmethod
    @torch.no_grad()
    def from_linear(cls, linear: nn.Linear, granularity: str = "row") -> FP8Linear:
        """Quantized copy of a Linear, on its device (the meta device gives the empty module)."""
        weight, bias = linear.weight, linear.bias
        out = cls(weight.shape[1], weight.shape[0], bias is not None, granularity=granularity, device="meta")
        if weight.is_meta:
            out.bias = None if bias is None else nn.Parameter(torch.empty_like(bias))
            return out
        out.weight, out.scale = ops.quantize_fp8(weight, granularity=granularity)
        out.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        return out

    def forward(self, x: Tensor) -> Tensor:  # [..., K] -> [..., N]
        device = x.device.type
        if autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        return ops.fp8_linear(x, self.weight, self.scale, self.bias_as(x))

    def bias_as(self, x: Tensor | ops.Fp8Rows) -> Tensor | None:
        """The bias in x's dtype; in bfloat16 for an x that is quantized."""
        return None if self.bias is None else self.bias.to(torch.bfloat16 if isinstance(x, ops.Fp8Rows) else x.dtype)

    def _apply(self, fn, recurse=True):
        weight, scale = self.weight, self.scale
        super()._apply(fn, recurse)
        # A dtype change meant for the model would widen the weight without its scale; a device change passes.
        if self.weight.dtype != FP8:
            self.weight = weight.to(self.weight.device)
        if self.scale.dtype != torch.float32:
            self.scale = scale.to(self.scale.device)
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def fp8_linears(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of every linear that the released FP8 format stores as FP8: all of the double and single blocks.

    320 of them in the 13B model. Embedders, token refiner and final layer keep their dtype.
    """
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | FP8Linear) and any(part in BLOCK_LISTS for part in path.split(".")):
            yield path, module


def convert_to_fp8_modules(model: nn.Module, *, granularity: str = "row") -> nn.Module:
    """Replaces, in place and one at a time, the linears of `fp8_linears` by FP8Linear; returns the model.

    Weights are quantized (round to nearest, scale = largest magnitude / 448); on the meta device the modules stay
    empty, to be filled from an FP8 checkpoint. granularity: "row" (a scale per output channel) or "tensor" (released).
    """
    for path, linear in list(fp8_linears(model)):
        if isinstance(linear, nn.Linear):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, FP8Linear.from_linear(linear, granularity))
    return model
