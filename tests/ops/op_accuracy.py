"""The correctness rule of the kernels, and the grid of paths they are tested on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hunyuan_ext.core import native

LEVELS = [
    level
    for index, level in enumerate(native.LEVELS)
    if native.module is not None and index <= native.module.isa_supported()
]
DTYPES = [torch.float32, torch.bfloat16]
needs_native = pytest.mark.skipif(native.module is None, reason=native.missing or "native module present")


@pytest.fixture(autouse=True)
def poisoned_outputs():
    """torch.empty and friends return NaN (or the largest integer): what a kernel forgets to write shows.

    Test modules import this name, which switches it on for all their tests.
    """
    torch._C._set_deterministic_algorithms(True)  # the public function imports all of torch._inductor first
    assert torch.empty_like(torch.zeros(3)).isnan().all()
    yield
    torch._C._set_deterministic_algorithms(False)


def max_error(out: Tensor, exact: Tensor) -> float:
    """Largest absolute difference, 0 for empty tensors; infinity where only one of the two is NaN."""
    if out.numel() == 0:
        return 0.0
    difference = (out.double() - exact.double()).abs()
    difference = torch.where(out.isnan() & exact.isnan(), torch.zeros_like(difference), difference)
    return float(torch.nan_to_num(difference, nan=float("inf")).max())


def assert_error_within(out: Tensor, exact: Tensor, baseline: Tensor, k: float = 2.0) -> None:
    """max |out - exact| <= k * max |baseline - exact| + one rounding; `exact` is float64, `baseline` plain torch.

    The rounding, eps * max |exact|, is there because a short baseline can be exact by luck (flash-attention's rule).
    """
    assert exact.dtype == torch.float64, "the oracle must be computed in float64"
    assert out.shape == exact.shape == baseline.shape, f"shapes {out.shape}, {exact.shape}, {baseline.shape} differ"
    assert out.dtype == baseline.dtype, f"dtype {out.dtype}, plain torch gives {baseline.dtype}"
    if out.numel() == 0:
        return
    error, plain = max_error(out, exact), max_error(baseline, exact)
    rounding = torch.finfo(out.dtype).eps * float(exact.abs().max())
    assert error <= k * plain + rounding, (
        f"error {error:.3g} > {k} x plain torch's {plain:.3g} + rounding {rounding:.3g}"
    )
