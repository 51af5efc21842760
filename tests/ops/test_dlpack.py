"""The ops on arrays of other libraries: the same bits as for torch's tensors, in the same memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hunyuan_ext
from hunyuan_ext import dlpack


def wave(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.sin(0.37 * np.arange(np.prod(shape))).reshape(shape).astype(dtype)


@pytest.fixture(params=["numpy", "jax"])
def array(request):
    """Makes an array of a library from NumPy's."""
    if request.param == "numpy":
        return np.asarray
    return pytest.importorskip("jax.numpy").asarray


def test_attention_is_that_of_torch(array):
    q, k, v = (wave(2, 9, 3, 32) + i for i in range(3))
    cos, sin = np.cos(wave(9, 32)), np.sin(wave(9, 32))
    wanted = hunyuan_ext.rope_attention(
        *map(torch.from_numpy, (q, k, v)), rope=(torch.from_numpy(cos), torch.from_numpy(sin))
    )
    got = dlpack.rope_attention(array(q), array(k), v=array(v), rope=(array(cos), array(sin)))
    assert torch.equal(got, wanted)
    assert np.array_equal(np.from_dlpack(got), wanted.numpy())  # and back


def test_two_inputs_of_a_linear_layer(array):
    x, y, weight, bias = wave(5, 8), wave(5, 4), wave(6, 12), wave(6)
    wanted = hunyuan_ext.linear((torch.from_numpy(x), torch.from_numpy(y)), *map(torch.from_numpy, (weight, bias)))
    assert torch.equal(dlpack.linear((array(x), array(y)), array(weight), array(bias)), wanted)


def test_a_convolution_with_a_channels_last_array(array):
    x, weight = wave(1, 4, 5, 6, 8), wave(3, 8, 3, 3, 3)
    wanted = hunyuan_ext.causal_conv3d(torch.from_numpy(x).permute(0, 4, 1, 2, 3), torch.from_numpy(weight))
    assert torch.equal(dlpack.causal_conv3d(array(x).transpose(0, 4, 1, 2, 3), array(weight)), wanted)


def test_memory_is_shared():
    x = wave(4, 6)
    view = dlpack.tensor("x", x[:, 1:5])
    assert view.data_ptr() == x.ctypes.data + 4 and view.stride() == (6, 1)
    out = np.empty((4, 3), np.float32)
    result = dlpack.linear(x, wave(3, 6), out=out)
    assert result.data_ptr() == out.ctypes.data
    assert np.array_equal(out, hunyuan_ext.linear(torch.from_numpy(x), torch.from_numpy(wave(3, 6))).numpy())


def test_read_only_inputs_are_read_and_never_written():
    x, weight = wave(4, 6), wave(3, 6)
    x.flags.writeable = weight.flags.writeable = False
    before = x.copy()
    dlpack.linear(x, weight)
    assert np.array_equal(x, before)
    out = np.zeros((4, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="^out: is written to"):
        dlpack.linear(x, weight, out=out)


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        (wave(4, 6)[::-1], ValueError, "^x: runs backwards in memory; copy it first$"),
        (wave(4, 6).astype(np.longdouble), TypeError, "^x: "),
        (wave(4, 6).astype(np.complex64), TypeError, "^x: elements of DLPack's type 5 with 64 bits; possible: int8"),
        (wave(4, 6).astype(">f4"), TypeError, "^x: its library does not hand it over: "),
        (wave(1, 1, 1, 1, 1, 4, 6), ValueError, "^x: has 7 dimensions, at most 6 are possible$"),
    ],
)
def test_what_torch_cannot_hold_is_refused_by_name(wrong, error, message):
    with pytest.raises(error, match=message):
        dlpack.linear(wrong, wave(3, 6))


def test_ops_on_tensors_name_the_functions_for_arrays():
    q = wave(1, 4, 2, 16)
    for call in (lambda: hunyuan_ext.rope_attention(q, q, q), lambda: hunyuan_ext.linear(wave(4, 6), wave(3, 6))):
        with pytest.raises(TypeError, match=r"got ndarray \(hunyuan_ext.dlpack has the ops for arrays\)"):
            call()
