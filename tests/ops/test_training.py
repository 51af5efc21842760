"""Native gradients on the CPU in bfloat16 against float64, and where they are taken."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hunyuan_ext as ops
from hunyuan_ext import reference
from hunyuan_ext.attention import autograd
from hunyuan_ext.core import dispatch, native
from tests.ops.op_accuracy import assert_error_within, poisoned_outputs  # noqa: F401

BF16 = torch.bfloat16
HAS_AMX = native.module is not None and native.module.has_attention_unit(autograd.AMX_UNIT)
needs_gradients = pytest.mark.skipif(
    bool(dispatch.no_gradients()), reason=dispatch.no_gradients() or "native gradients present"
)
needs_amx = pytest.mark.skipif(not HAS_AMX, reason="the attention's gradients need AMX")


def gradients(op, inputs: list[Tensor | None], grad: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """The output of op(*inputs) and the gradients of the inputs, computed in `dtype`."""
    leaves = [None if entry is None else entry.detach().to(dtype).requires_grad_() for entry in inputs]
    out = op(*leaves)
    given = [entry for entry in leaves if entry is not None]
    return [out.detach(), *torch.autograd.grad(out, given, grad.to(out.dtype))]


def assert_gradients(op, plain, inputs: list[Tensor | None], name: str) -> None:
    """op within the correctness rule of `plain`, which is the oracle in float64 and the baseline in bfloat16."""
    exact_out = plain(*(None if entry is None else entry.double() for entry in inputs))
    grad = torch.randn(exact_out.shape).to(BF16)
    leaves = [None if entry is None else entry.requires_grad_() for entry in inputs]
    assert name in type(op(*leaves).grad_fn).__name__, "the native path was not taken"
    exact = gradients(plain, inputs, grad, torch.float64)
    for result, right, torchs in zip(
        gradients(op, inputs, grad, BF16), exact, gradients(plain, inputs, grad, BF16), strict=True
    ):
        assert_error_within(result, right, torchs.to(result.dtype))


def rotation(tokens: int, dim: int) -> tuple[Tensor, Tensor]:
    angle = torch.rand(tokens, dim // 2).mul(6).repeat_interleave(2, 1)
    return angle.cos(), angle.sin()


@needs_amx
@settings(max_examples=20)
@given(data=st.data())
def test_attention_gradients_obey_the_rule(data):
    draw = lambda strategy, label: data.draw(strategy, label=label)  # noqa: E731
    torch.manual_seed(draw(st.integers(0, 99), "seed"))
    batch, heads, dim = (
        draw(st.integers(1, 2), "B"),
        draw(st.integers(1, 2), "H"),
        16 * draw(st.integers(1, 8), "D / 16"),
    )
    tokens = draw(st.integers(2, 90) | st.integers(120, 300), "S")
    text = draw(st.integers(1, tokens - 1), "text")
    has_norms, has_text_norms, has_rope = (draw(st.booleans(), name) for name in ("norms", "text norms", "rope"))
    kv_len = draw(st.lists(st.integers(1, tokens), min_size=batch, max_size=batch) | st.none(), "kv_len")
    q, k, v = torch.randn(batch, tokens, 3, heads, dim).to(BF16).unbind(2)
    norms = [torch.rand(dim).add(0.5).to(BF16) if has_norms else None for _ in range(2)]
    texts = [torch.rand(dim).add(0.5).to(BF16) if has_norms and has_text_norms else None for _ in range(2)]
    rope = rotation(tokens - text, dim) if has_rope else None
    lengths = None if kv_len is None else torch.tensor(kv_len)

    def call(op):
        def run(q, k, v, q_norm, k_norm, text_q, text_k):
            pair = None if text_q is None else (text_q, text_k)
            return op(
                q, k, v, rope=rope, q_norm=q_norm, k_norm=k_norm, text_norms=pair, text_len=text, kv_len=lengths
            )  # fmt: skip

        return run

    assert_gradients(
        call(ops.rope_attention), call(reference.rope_attention), [q, k, v, *norms, *texts], "RopeAttention"
    )


@needs_amx
def test_attention_gradients_do_not_depend_on_threads():
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 1200, 3, 2, 32).to(BF16).unbind(2)  # two parts of keys
    norms, before = [torch.ones(32), torch.ones(32)], torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaves = [entry.clone().requires_grad_() for entry in (q, k, v, *norms)]
            out = ops.rope_attention(*leaves[:3], q_norm=leaves[3], k_norm=leaves[4])
            results.append([out, *torch.autograd.grad(out.float().square().sum(), leaves)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(entry, other) for entry, other in zip(*results, strict=True))


@needs_amx
def test_large_scores_have_finite_gradients():
    """Beyond what 2^score holds: the kernel subtracts the log-sum-exp, also for the keys that kv_len hides."""
    torch.manual_seed(0)
    inputs = [(torch.randn(1, 70, 1, 32) * size).to(BF16) for size in (40, 40, 1)]
    kv_len = torch.tensor([41])
    run = lambda q, k, v: ops.rope_attention(q, k, v, kv_len=kv_len)  # noqa: E731
    plain = lambda q, k, v: reference.rope_attention(q, k, v, kv_len=kv_len)  # noqa: E731
    grads = gradients(run, inputs, torch.randn(inputs[0].shape), BF16)
    exact = gradients(plain, inputs, torch.randn(inputs[0].shape), torch.float64)
    assert all(entry.isfinite().all() for entry in grads)
    assert grads[2][:, 41:].abs().max() == grads[3][:, 41:].abs().max() == exact[3][:, 41:].abs().max() == 0


@needs_gradients
@settings(max_examples=15)
@given(
    batch=st.integers(1, 3), tokens=st.integers(1, 150), channels=st.integers(1, 70), seed=st.integers(0, 99)
)  # fmt: skip
def test_gradients_of_modulation_and_gate_obey_the_rule(batch, tokens, channels, seed):
    torch.manual_seed(seed)
    x, y = torch.randn(2, batch, tokens, channels).to(BF16)
    shift, scale, gate = torch.randn(3, batch, channels).to(BF16)
    assert_gradients(
        ops.layer_norm_modulate, reference.layer_norm_modulate, [x + 0.5, shift, scale], "LayerNormModulate"
    )
    assert_gradients(ops.gate_residual, reference.gate_residual, [x, y, gate], "GateResidual")


@needs_gradients
@pytest.mark.parametrize("split", [0, 5, 37])
def test_split_gelu_and_its_gradient_obey_the_rule(split):
    torch.manual_seed(split)
    x = (torch.randn(2, 9, 37) * 3).to(BF16)

    def plain(x):
        return torch.cat((x[..., :split], torch.nn.functional.gelu(x[..., split:], approximate="tanh")), -1)

    def both(x):
        return torch.cat(ops.split_gelu(x, split), -1)

    assert "SplitGelu" in type(ops.split_gelu(x.clone().requires_grad_(), split)[1].grad_fn).__name__
    grad = torch.randn(x.shape)
    results = [gradients(op, [x], grad, dtype) for op, dtype in ((both, BF16), (plain, torch.float64), (plain, BF16))]
    for result, right, torchs in zip(*results, strict=True):
        assert_error_within(result, right, torchs)


@needs_gradients
def test_what_is_not_bfloat16_training_is_composed():
    x, shift, scale = torch.randn(2, 5, 8), torch.randn(2, 8), torch.randn(2, 8)
    assert ops.layer_norm_modulate(x.requires_grad_(), shift, scale).grad_fn.name() == "AddBackward0"
    low = [entry.detach().to(BF16) for entry in (x, shift, scale)]
    assert ops.layer_norm_modulate(*low).grad_fn is None
    low[0].requires_grad_()
    with torch.autocast("cpu", BF16):
        assert "LayerNormModulate" in ops.layer_norm_modulate(*low).grad_fn.name()
    with native.forced("reference"):
        assert "LayerNormModulate" not in ops.layer_norm_modulate(*low).grad_fn.name()
    doubles = [entry.detach().double().requires_grad_() for entry in (x, shift, scale)]
    assert torch.autograd.gradcheck(ops.layer_norm_modulate, doubles)


@needs_gradients
def test_gradients_of_gradients_are_refused():
    leaves = [torch.randn(1, 3, 8, dtype=BF16).requires_grad_() for _ in range(2)]
    gate = torch.randn(1, 8, dtype=BF16).requires_grad_()
    (grad,) = torch.autograd.grad(ops.gate_residual(*leaves, gate).square().sum(), gate, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_split_gelu_refuses_what_it_cannot_split():
    with pytest.raises(ValueError, match="split: 9 is not within the 8 columns"):
        ops.split_gelu(torch.zeros(2, 8), 9)
    with pytest.raises(TypeError, match="x: a floating-point tensor"):
        ops.split_gelu(torch.zeros(2, 8, dtype=torch.int32), 1)
