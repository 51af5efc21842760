"""The torch.library ops: schema, fake kernels, gradients, torch.compile and torch.export."""

import pytest
import torch
from op_accuracy import needs_native

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.core import native

LIBRARY = torch.ops.hunyuan_ext
TILES = torch.tensor([0, 2, 3], dtype=torch.int32), torch.tensor([0, 2, 1], dtype=torch.int32)  # starts, key blocks


def norm_inputs(dtype, grad=False):
    x = torch.randn(2, 5, 12).to(dtype).requires_grad_(grad)
    vectors = torch.randn(2, 12).to(dtype), torch.randn(2, 12).to(dtype)
    return x, *(vector.requires_grad_(grad) for vector in vectors)


def volume_inputs(dtype, grad=False, layout=torch.contiguous_format):
    x = torch.randn(2, 6, 2, 3, 4).to(dtype).to(memory_format=layout).requires_grad_(grad)
    return x, *(vector.requires_grad_(grad) for vector in torch.randn(2, 6).to(dtype).unbind(0))


def attention_inputs(dtype, grad=False):
    """q, k, four norms, cos, sin, text_len, eps."""
    q, k = (torch.randn(2, 5, 3, 8).to(dtype).requires_grad_(grad) for _ in range(2))
    norms = [torch.rand(8).add(0.5).to(dtype).requires_grad_(grad) for _ in range(4)]
    table = torch.float64 if dtype == torch.float64 else torch.float32
    return q, k, *norms, torch.rand(3, 8, dtype=table), torch.rand(3, 8, dtype=table), 2, 1e-6


def product_inputs(dtype, grad=False):
    """q, k, v as attention walks them: [B, H, Q or K, D]."""
    return [torch.randn(2, 3, tokens, 4).to(dtype).requires_grad_(grad) for tokens in (5, 6, 6)]


def plain_rows(dtype, columns=12):
    return torch.randn(2, 3, columns).to(dtype)


def code_parts():
    """Codes and scales of two parts of x: 128 and 32 columns."""
    parts = [LIBRARY.quantize_rows(plain_rows(torch.float32, columns), 128) for columns in (128, 32)]
    return [list(part) for part in zip(*parts, strict=True)]


def cases(dtype, grad):
    last = torch.channels_last_3d
    x, y, gate = *norm_inputs(dtype, grad)[:1], *norm_inputs(dtype, grad)[:2]
    w8, scale = ops.quantize_fp8(torch.randn(7, 12))
    bias = torch.randn(7).to(dtype).requires_grad_(grad)
    q, k, *_ = attention = attention_inputs(dtype, grad)
    value, bare = torch.randn(2, 5, 3, 8).to(dtype).requires_grad_(grad), (None, None, None, 0, 0, 0.4)
    kernel = torch.randn(4, 6, 2, 2, 2).to(dtype).requires_grad_(grad)
    residual = torch.randn(2, 4, 1, 2, 2).to(dtype).requires_grad_(grad)
    square, square_scale = ops.quantize_fp8(torch.randn(12, 12))
    width = torch.randn(12).to(dtype).requires_grad_(grad)
    return {
        "template_scale": (LIBRARY.template_scale, (torch.randn(9).to(dtype).requires_grad_(grad), 0.7)),
        "layer_norm_modulate": (LIBRARY.layer_norm_modulate, (*norm_inputs(dtype, grad), 1e-6)),
        "gate_residual": (LIBRARY.gate_residual, (x, y, gate)),
        "pad_causal": (LIBRARY.pad_causal, (volume_inputs(dtype, grad)[0], [2, 1, 1])),
        "pad_causal last": (LIBRARY.pad_causal, (volume_inputs(dtype, grad, last)[0], [1, 0, 2])),
        "pad_causal nothing": (LIBRARY.pad_causal, (volume_inputs(dtype, grad)[0], [0, 0, 0])),
        "group_norm_silu": (LIBRARY.group_norm_silu, (*volume_inputs(dtype, grad), 3, 1e-6, True, [2, 1, 1])),
        "group_norm_silu last": (
            LIBRARY.group_norm_silu,
            (*volume_inputs(dtype, grad, last), 2, 1e-6, False, [0, 0, 0]),
        ),
        "group_norm_silu bare": (
            LIBRARY.group_norm_silu,
            (volume_inputs(dtype, grad)[0], None, None, 2, 1e-6, True, [0, 1, 0]),
        ),
        "causal_conv3d": (
            LIBRARY.causal_conv3d,
            (volume_inputs(dtype, grad)[0], kernel, bias[:4].detach().requires_grad_(grad), residual, [1, 1, 2]),
        ),
        "causal_conv3d last": (
            LIBRARY.causal_conv3d,
            (volume_inputs(dtype, grad, last)[0], kernel, None, None, [1, 1, 1]),
        ),
        "qk_norm_rope": (LIBRARY.qk_norm_rope, attention),
        "qk_norm_rope one norm": (LIBRARY.qk_norm_rope, (*attention[:4], None, None, *attention[6:])),
        "qk_norm_rope rotation": (LIBRARY.qk_norm_rope, (q, k, None, None, None, None, *attention[6:])),
        "attention": (LIBRARY.attention, (*product_inputs(dtype, grad), None, None, None, 0, 0, 0.4)),
        "attention lengths": (
            LIBRARY.attention,
            (*product_inputs(dtype, grad), torch.tensor([3, 6]), None, None, 0, 0, 0.4),
        ),
        "attention tiles": (
            LIBRARY.attention,
            (*product_inputs(dtype, grad), None, *TILES, 3, 2, 0.4),
        ),
        "rope_attention_fp8 tiles": (
            LIBRARY.rope_attention_fp8,
            (q, k, value, *attention[2:], torch.tensor([3, 5]), *TILES, 3, 2, 0.4),
        ),
        "rope_attention_fp8": (LIBRARY.rope_attention_fp8, (q, k, value, *attention[2:], *bare)),
        "rope_attention_fp8 bare": (LIBRARY.rope_attention_fp8, (q, k, value, *[None] * 6, 0, 1e-6, *bare)),
        "fp8_linear": (LIBRARY.fp8_linear, (norm_inputs(dtype, grad)[0], w8, scale, bias)),
        "fp8_linear with epilogue": (
            LIBRARY.linear_fp8,
            (norm_inputs(dtype, grad)[0], square, square_scale, width, True, gate, x),
        ),
        "fp8_linear with residual": (
            LIBRARY.linear_fp8,
            (norm_inputs(dtype, grad)[0], square, square_scale, None, False, None, x),
        ),
        "fp8_linear bare": (LIBRARY.fp8_linear, (norm_inputs(dtype, grad)[0], w8, scale, None)),
        "int8_linear": (
            LIBRARY.int8_linear,
            (norm_inputs(dtype, grad)[0], *ops.quantize_int8(torch.randn(7, 12)), bias),
        ),
    }


def code_cases():
    """Ops on codes, which have no gradient."""
    weight, dtype = ops.quantize_fp8(torch.randn(16, 160)), torch.float32
    return {
        "quantize_rows": (LIBRARY.quantize_rows, (plain_rows(dtype), 0)),
        "quantize_rows blocks": (LIBRARY.quantize_rows, (plain_rows(dtype, 160), 128)),
        "layer_norm_modulate": (LIBRARY.layer_norm_modulate_fp8, (*norm_inputs(dtype, False), 1e-6)),
        "linear": (LIBRARY.linear_fp8_rows, (*code_parts(), *weight, None, True, None, None)),
        "linear, quantized": (LIBRARY.linear_fp8_quantized, (*code_parts(), *weight, torch.randn(16).bfloat16(), True)),
    }


@pytest.mark.parametrize("name", list(code_cases()))
def test_opcheck_of_codes(name):
    op, arguments = code_cases()[name]
    torch.library.opcheck(op, arguments, test_utils=["test_autograd_registration", "test_faketensor"])


NAMES = list(cases(torch.float32, False))


@pytest.mark.parametrize(("dtype", "grad"), [(torch.float32, True), (torch.bfloat16, False)])
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name, grad, dtype):
    op, arguments = cases(dtype, grad)[name]
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if name.startswith("fp8"):
        checks.remove("test_schema")  # it compares clones of the inputs, and torch cannot compare float8 tensors
    with native.forced("native" if native.module else "auto"):
        torch.library.opcheck(op, arguments, test_utils=checks)


@pytest.mark.parametrize("name", [name for name in NAMES if " " not in name])
def test_opcheck_through_aot_autograd(name):
    op, arguments = cases(torch.float32, True)[name]
    torch.library.opcheck(op, arguments, test_utils="test_aot_dispatch_dynamic")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "int8_linear"])  # straight through: test_int8.py
def test_gradient_formulas(name):
    op, arguments = cases(torch.float64, True)[name]
    assert torch.autograd.gradcheck(lambda *inputs: op(*inputs), arguments)


@needs_native
@pytest.mark.parametrize("name", NAMES)
def test_library_and_eager_paths_agree(name):
    op, arguments = cases(torch.float32, False)[name]
    with native.forced("native"):
        by_kernel = op(*arguments)
    with native.forced("reference"):
        composed = op(*arguments)
    torch.testing.assert_close(by_kernel, composed, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.utils._pytree.tree_leaves(by_kernel), torch.utils._pytree.tree_leaves(composed), strict=True
    ):
        assert one.stride() == other.stride()


def everything(x, shift, scale, volume, weight, bias, q, k, v, norm, rope, w8, w8_scale, kernel):
    """All ops, as a model would call them."""
    hidden = ops.gate_residual(x, ops.layer_norm_modulate(x, shift, scale), shift)
    hidden = ops.fp8_linear(hidden, w8, w8_scale, activation="gelu_tanh")
    image = ops.causal_conv3d(ops.group_norm_silu(volume, weight, bias, groups=2, pad=(2, 1, 1)), kernel, padded=True)
    image = ops.causal_conv3d(image, kernel)
    attended = ops.rope_attention(q, k, v, rope=rope, q_norm=norm, k_norm=norm, text_len=2)
    return hidden, image, attended


def everything_inputs():
    x, shift, scale = norm_inputs(torch.float32)
    volume, weight, bias = volume_inputs(torch.float32)
    q, k, norm, *_, cos, sin, _, _ = attention_inputs(torch.float32)
    return (
        x,
        shift,
        scale,
        volume,
        weight,
        bias,
        q,
        k,
        q + k,
        norm,
        (cos, sin),
        *ops.quantize_fp8(torch.randn(7, 12)),
        torch.randn(6, 6, 3, 3, 3),
    )


@needs_native
def test_compiled_graphs_hold_the_library_ops_and_agree():
    graphs = []

    def remember(graph, _):
        graphs.append({node.target for node in graph.graph.nodes if node.op == "call_function"})
        return graph

    inputs = everything_inputs()
    with native.forced("native"), torch.no_grad():
        compiled = torch.compile(everything, backend=remember, fullgraph=True)(*inputs)
        eager = everything(*inputs)
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)
    wanted = ("layer_norm_modulate", "gate_residual", "group_norm_silu", "pad_causal", "qk_norm_rope", "fp8_linear")
    called = {str(target).removesuffix(".default") for target in graphs[0]}
    assert {f"hunyuan_ext.{name}" for name in wanted} <= called


def test_compiled_graphs_train():
    inputs = everything_inputs()
    x, kernel = inputs[0].clone().requires_grad_(), inputs[-1].clone().requires_grad_()
    arguments = (x, *inputs[1:-1], kernel)
    compiled = torch.compile(everything, backend="aot_eager", fullgraph=True)
    ours = torch.autograd.grad(sum(out.square().sum() for out in compiled(*arguments)), (x, kernel))
    theirs = torch.autograd.grad(sum(out.square().sum() for out in everything(*arguments)), (x, kernel))
    torch.testing.assert_close(ours, theirs)


@needs_native
@pytest.mark.parametrize("strict", [False, True])
def test_export_holds_the_library_ops(strict):
    class Block(torch.nn.Module):
        def forward(self, x, shift, scale):
            return ops.layer_norm_modulate(x, shift, scale)

    arguments = norm_inputs(torch.float32)
    with torch.no_grad():
        program = torch.export.export(Block(), arguments, strict=strict)
    targets = {node.target for node in program.graph.nodes}
    assert LIBRARY.layer_norm_modulate.default in targets
    torch.testing.assert_close(program.module()(*arguments), reference.layer_norm_modulate(*arguments))


def test_fake_tensors_and_dispatch_modes_see_torch_operations():
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode

    with FakeTensorMode():
        x, shift = torch.empty(2, 3, 8), torch.empty(2, 8)
        assert ops.layer_norm_modulate(x, shift, shift).shape == x.shape
    seen = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    x, shift = torch.zeros(2, 3, 8), torch.zeros(2, 8)
    with Recorder():
        ops.layer_norm_modulate(x, shift, shift)
    assert torch.ops.aten.native_layer_norm.default in seen
