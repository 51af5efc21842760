"""Every test of the kernels runs with poisoned outputs and without gradients unless it asks for them."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_outputs():
    """torch.empty and friends return NaN (or the largest integer): what a kernel forgets to write shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty_like(torch.zeros(3)).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
