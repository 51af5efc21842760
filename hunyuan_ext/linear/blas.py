"""Linear layers on CUDA in 16 bits: torch's products, with as much of the rest in them as cuBLAS can take.

GELU in the product's epilogue; two inputs as two products, the second added to the first; results written where they
are wanted. So nothing of a sequence's length is made beside the result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_ext.core import native, plain
from hunyuan_ext.core.types import BFLOAT, HALF
from hunyuan_ext.norm import kernels

Inputs = tuple[Tensor, ...]


def takes(inputs: Inputs, weight: Tensor, *others: Tensor | None) -> bool:
    """True for plain CUDA tensors of one dtype of 16 bits; others: bias, gate, residual, out."""
    x = inputs[0]
    operands = [tensor for tensor in (*inputs, weight, *others) if tensor is not None]
    return (
        plain.device_type(x) == "cuda"
        and native.mode != "reference"
        and not torch.compiler.is_compiling()
        and x.dtype in (BFLOAT, HALF)
        and all(tensor.dtype == x.dtype and tensor.numel() for tensor in operands)
        and plain.may_bypass(*operands)
    )


def runner(two: bool, gelu: bool, gated: bool, direct: bool) -> Callable[..., Tensor]:
    """A function that runs calls; two: of two inputs. gated: `gate_residual` follows. direct: `out` is contiguous."""

    def run(inputs, weight, bias, _, gate, residual, out):
        shape = *inputs[0].shape[:-1], weight.shape[0]
        if gated:
            product = _product(inputs, weight, bias, gelu, None).view(shape)
            result = kernels.gate_residual(residual, product, gate, out if direct else None)
        else:
            result = _product(inputs, weight, bias, gelu, out.view(-1, shape[-1]) if direct else None).view(shape)
        return result if out is None or direct else out.copy_(result)

    def _product(inputs, weight, bias, gelu, out):  # [M, N]
        rows = [x.reshape(-1, x.shape[-1]) for x in inputs]
        if two:
            head = rows[0].shape[1]
            first = _affine(rows[0], weight[:, :head], bias, out)
            whole = torch.addmm(first, rows[1], weight[:, head:].T, out=first)
            return _gelu(whole) if gelu else whole
        # The tanh form on CUDA only; `plain.device_type` says "cuda" of CPU tensors, too, whose kernels are emulated.
        if gelu and bias is not None and out is None and (rows[0].is_cuda or plain.rehearsed() is not None):
            return torch._addmm_activation(bias, rows[0], weight.T, use_gelu=True)
        product = _affine(rows[0], weight, bias, out)
        return _gelu(product) if gelu else product

    return run


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None) -> Tensor:  # [M, K], [N, K] -> [M, N]
    if bias is None:
        return torch.mm(x, weight.T) if out is None else torch.mm(x, weight.T, out=out)
    return torch.addmm(bias, x, weight.T) if out is None else torch.addmm(bias, x, weight.T, out=out)


def _gelu(product: Tensor) -> Tensor:
    return product.copy_(F.gelu(product, approximate="tanh"))
