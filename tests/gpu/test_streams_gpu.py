"""Kernels among other CUDA work: side streams, graphs, threads, several devices, torch.compile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import hunyuan_ext as ops
from hunyuan_ext import reference

SLEEP = 100_000_000  # cycles, some 50 ms


def tokens(seed=0, device="cuda"):
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(1, 600, 3, 4, 128, generator=generator, device=device).bfloat16()


def attend(qkv):
    return ops.rope_attention(*qkv.unbind(2))


def modulate(qkv):
    x = qkv[:, :, 0].flatten(2)
    return ops.layer_norm_modulate(x, x[:, 0], x[:, 1])


def linear(qkv):
    x = qkv[:, :, 0].flatten(2)
    return ops.fp8_linear(x, *ops.quantize_fp8(x[0, :256]))


def chain(qkv):
    """Norm to FP8, GELU layer to FP8, then a product of two matrices side by side."""
    x = qkv[:, :, 0].flatten(2)
    rows = ops.layer_norm_modulate_fp8(x, x[:, 0], x[:, 1])
    hidden = ops.fp8_linear_fp8(rows, *ops.quantize_fp8(x[0, :256]), activation="gelu_tanh")
    return ops.fp8_linear((x, hidden), *ops.quantize_fp8(x[0, :384].reshape(256, -1)), gate=x[:, 0, :256])


def volume(qkv):
    x = qkv[:, :512, 0].flatten(2)[..., :64].reshape(1, 8, 8, 8, 64).permute(0, 4, 1, 2, 3)
    weight = qkv.flatten()[: 64 * 27 * 64].view(64, 3, 3, 3, 64).permute(0, 4, 1, 2, 3)
    return ops.causal_conv3d(ops.group_norm_silu(x, None, None, pad=(2, 1, 1)), weight, padded=True)


OPS = [attend, modulate, linear, chain, volume]


@pytest.mark.parametrize("op", OPS)
def test_side_stream(op):
    """Inputs that appear late on a side stream: a kernel on any other stream would read what was there before."""
    real, qkv = tokens(1), tokens(2)
    expected = op(real)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(SLEEP)
        qkv.copy_(real)
        out = op(qkv)
    stream.synchronize()
    assert torch.equal(out, expected)


@pytest.mark.parametrize("op", OPS)
def test_graph_capture(op):
    qkv = tokens(1)
    op(qkv)  # workspaces, attributes, what is asked of the device once
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = op(qkv)
    for seed in (2, 3):
        fresh = tokens(seed)
        qkv.copy_(fresh)
        graph.replay()
        assert torch.equal(out, op(fresh))


def test_two_threads():
    """Each on a stream of its own: no state is shared between calls."""

    def work(seed):
        with torch.cuda.stream(torch.cuda.Stream()):
            results = [[op(tokens(seed)) for op in OPS] for _ in range(5)]
            torch.cuda.current_stream().synchronize()
            return results

    expected = {seed: [op(tokens(seed)) for op in OPS] for seed in (1, 2)}
    torch.cuda.synchronize()
    with ThreadPoolExecutor(2) as pool:
        for seed, rounds in zip((1, 2), pool.map(work, (1, 2)), strict=True):
            for results in rounds:
                assert all(torch.equal(a, b) for a, b in zip(results, expected[seed], strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
@pytest.mark.parametrize("op", OPS)
def test_the_device_of_the_tensors(op):
    """Tensors of the second device while the first one is current."""
    qkv = tokens(1)
    assert torch.equal(op(qkv.to("cuda:1")).cpu(), op(qkv).cpu()) and torch.cuda.current_device() == 0


def test_compiled_without_graph_breaks():
    qkv = tokens(1)
    for op in (attend, modulate):
        torch.testing.assert_close(torch.compile(op, fullgraph=True)(qkv), op(qkv), rtol=2e-2, atol=2e-2)


def test_gradients():
    """The kernels have no backward of their own: under autograd torch's attention runs, with its gradient."""
    qkv = tokens(1).requires_grad_()
    attend(qkv).float().square().sum().backward()
    exact = qkv.detach().double().requires_grad_()
    reference.rope_attention(*exact.unbind(2)).square().sum().backward()
    error = (qkv.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < 2e-2
