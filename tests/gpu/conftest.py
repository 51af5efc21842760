"""Tests on a GPU: `pytest -m gpu tests/gpu`. Without one they are skipped; benchmarks/gpu.py runs them."""

from __future__ import annotations

import os

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS warns in deterministic mode without it


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/gpu" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _seeded_and_poisoned():
    """torch.empty returns NaN: what a kernel forgets to write shows. Warnings only, as cuDNN is a baseline here."""
    torch.manual_seed(0)
    torch._C._set_deterministic_algorithms(True, warn_only=True)
    yield
    torch._C._set_deterministic_algorithms(False)
