"""Linear layers of a block with what surrounds them: activation, gate and residual, and no copies between them.

A plain `nn.Linear`, an FP8Linear or an Int8Linear goes to its op of hunyuan_ext, which does all of it in one kernel
where it has one. Any other module (an adapter around a linear, one with hooks) is called as it is; the rest follows.

Between the FP8 linears of a block activations are FP8 on GPUs that multiply FP8: what makes them quantizes them. The
norm in front of a linear and the GELU layer in front of another write codes and scales in their own pass; nothing is
quantized, activated or copied by a pass of its own. Elsewhere (CPU, gradients, adapters or hooks around a linear) the
same functions give plain tensors.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

import hunyuan_ext as ops
from hunyuan_ext.core import plain
from hunyuan_video.models.fp8 import FP8Linear
from hunyuan_video.models.int8 import Int8Linear
from hunyuan_video.models.plain import is_plain

Part = Tensor | ops.Fp8Rows  # plain, or quantized by what made it
KINDS = (nn.Linear, FP8Linear, Int8Linear)


def modulated(
    x: Tensor,  # [B, S, D]
    shift: Tensor,  # [B, D]
    scale: Tensor,  # [B, D]
    reader: nn.Module,
) -> Part:  # [B, S, D]
    """layer_norm_modulate for the linear that reads it."""
    return (ops.layer_norm_modulate_fp8 if reads_fp8(reader) else ops.layer_norm_modulate)(x, shift, scale)


def fp8_hidden(module: nn.Module, x: Part, reader: nn.Module) -> Part | None:  # [B, S, K] -> [B, S, N]
    """gelu(module(x)) for the linear that reads it; None unless both have FP8 weights."""
    if not (isinstance(module, FP8Linear) and reads_fp8(module) and reads_fp8(reader)):
        return None
    return ops.fp8_linear_fp8(x, module.weight, module.scale, module.bias_as(x), activation="gelu_tanh")


def fp8_halves(
    module: nn.Module,
    x: ops.Fp8Rows,  # [B, S, K]
    split: int,
    reader: nn.Module,
) -> tuple[Tensor, Part]:  # [B, S, split], [B, S, N - split]
    """module(x) in two parts, the second after a GELU, for `reader`: two products, each with its epilogue."""
    assert isinstance(module, FP8Linear)
    weight, scale, bias = module.weight, module.scale, module.bias_as(x)
    biases = (None, None) if bias is None else (bias[:split], bias[split:])
    scales = (scale[:split], scale[split:]) if scale.ndim else (scale, scale)
    hidden = ops.fp8_linear_fp8 if reads_fp8(reader) else ops.fp8_linear
    first = ops.fp8_linear(x, weight[:split], scales[0], biases[0])
    return first, hidden(x, weight[split:], scales[1], biases[1], activation="gelu_tanh")


def reads_fp8(module: nn.Module) -> bool:
    """True if a linear takes quantized activations: FP8 weights, nothing around it, no gradient."""
    return type(module) is FP8Linear and is_open(module) and not torch.is_grad_enabled()


def is_open(module: nn.Module) -> bool:
    """True if a module is a plain linear."""
    return is_plain(module, *KINDS)


LARGE = 1 << 20  # multiplications from which a product of its own for the columns with a GELU costs nothing
Inputs = Part | tuple[Part, Part]  # two: side by side in the last dimension


def linear(
    module: nn.Module,
    x: Inputs,  # [B, S, K]
    *,
    gelu: bool = False,
    gate: Tensor | None = None,  # [B, N]
    residual: Tensor | None = None,  # [B, S, N]
    out: Tensor | None = None,  # [B, S, N]; where no gradient is wanted
) -> Tensor:  # [B, S, N]
    """residual + gate * gelu(module(x))."""
    activation = "gelu_tanh" if gelu else None
    if is_open(module):
        return _op(module, x, activation, 0, gate, residual, out)
    product = module(torch.cat(cast("tuple[Tensor, Tensor]", x), dim=-1) if type(x) is tuple else x)
    product = ops.split_gelu(product, 0)[1] if gelu else product
    if residual is not None and gate is not None:
        product = ops.gate_residual(residual, product, gate)
    return product if out is None else out.copy_(product)


def linear_and_gelu(
    module: nn.Module,
    x: Part,  # [B, S, K]
    split: int,
    reader: nn.Module,
) -> tuple[Tensor, Part]:  # [B, S, split], [B, S, N - split]
    """module(x) in two parts, the second after a GELU, for `reader`; views of one tensor where that costs nothing."""
    if isinstance(x, ops.Fp8Rows):
        return fp8_halves(module, x, split, reader)
    if x.dtype == torch.bfloat16 and split % 32 == 0 and is_open(module) and kept(x):
        both = _op(module, x, "gelu_tanh", split)
        return both[..., :split], both[..., split:]
    if type(module) is nn.Linear and is_large(x, module) and is_open(module) and kept(x):  # the second with its GELU
        weight, bias = module.weight, module.bias
        head, tail = (None, None) if bias is None else (bias[:split], bias[split:])
        return ops.linear(x, weight[:split], head), ops.linear(x, weight[split:], tail, activation="gelu_tanh")
    return ops.split_gelu(linear(module, x), split)


def columns(
    module: nn.Module,
    x: Part,  # [B, S, K]
    start: int,
    stop: int,
    *,
    gelu: bool = False,
    reader: nn.Module | None = None,
    out: Tensor | None = None,  # [B, S, stop - start]
) -> Part:  # [B, S, stop - start]
    """Some columns of module(x), perhaps after a GELU, for `reader`; the module must be open."""
    activation = "gelu_tanh" if gelu else None
    if isinstance(module, nn.Linear):
        some = None if module.bias is None else module.bias[start:stop]
        return ops.linear(cast(Tensor, x), module.weight[start:stop], some, activation=activation, out=out)
    assert isinstance(module, FP8Linear | Int8Linear)
    whole_bias = module.bias_as(x)  # type: ignore[arg-type]
    bias = None if whole_bias is None else whole_bias[start:stop]
    weight, scale = module.weight[start:stop], module.scale[start:stop] if module.scale.ndim else module.scale
    if isinstance(module, Int8Linear):
        return ops.int8_linear(cast(Tensor, x), weight, scale, bias, activation=activation, out=out)
    if reader is not None and reads_fp8(module) and reads_fp8(reader):
        return ops.fp8_linear_fp8(x, weight, scale, bias, activation=activation)
    return ops.fp8_linear(x, weight, scale, bias, activation=activation, out=out)


def linear_pair(
    modules: tuple[nn.Module, nn.Module],
    inputs: tuple[Part, Part],  # [B, S, K], [B, L, K]
) -> Tensor:  # [B, S + L, N]
    """The products of two modules, one after the other in dimension 1: written in place, or concatenated."""
    if not all(map(writes_in_place, modules, inputs)):
        return torch.cat([linear(module, x) for module, x in zip(modules, inputs, strict=True)], dim=1)
    first, second = (x.codes if isinstance(x, ops.Fp8Rows) else x for x in inputs)
    columns, length = modules[0].out_features, first.shape[1]
    dtype = torch.bfloat16 if isinstance(inputs[0], ops.Fp8Rows) else first.dtype
    shape = first.shape[0], length + second.shape[1], columns
    out = torch.empty(shape, dtype=dtype, device=first.device)  # type: ignore[arg-type]
    linear(modules[0], inputs[0], out=out[:, :length])
    linear(modules[1], inputs[1], out=out[:, length:])
    return out


def writes_in_place(module: nn.Module, x: Part) -> bool:
    """True if the product of x is faster with its output allocated beforehand."""
    if isinstance(x, ops.Fp8Rows):
        return not torch.compiler.is_compiling()
    apart = x.dtype == torch.float32 and type(module) is nn.Linear  # torch's products make tensors of their own
    return not apart and kept(x) and is_open(module)


def is_large(x: Tensor, module: nn.Linear) -> bool:
    return x.numel() * module.out_features >= LARGE


def kept(x: Tensor) -> bool:
    """True if outputs may be shared: x is an ordinary CPU tensor, needs no gradient and keeps its dtype."""
    return (
        plain.device_type(x) == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def _op(
    module: nn.Module,
    x: Inputs,
    activation: str | None,
    activation_from: int = 0,
    gate: Tensor | None = None,
    residual: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    op: Any = ops.linear
    if type(module) is nn.Linear:  # parameters from their dictionary: nn.Module's own way to them takes longer
        weights: tuple = module._parameters["weight"], module._parameters["bias"]
    else:
        assert isinstance(module, FP8Linear | Int8Linear)
        op = ops.fp8_linear if isinstance(module, FP8Linear) else ops.int8_linear
        bias = module.bias_as(x[0] if type(x) is tuple else x)  # type: ignore[arg-type]
        weights = module.weight, module.scale, bias
    return op(
        x, *weights, activation=activation, activation_from=activation_from, gate=gate, residual=residual, out=out
    )
