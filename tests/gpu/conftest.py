"""Tests on a GPU: `pytest -m gpu tests/gpu`. Without one they are skipped; benchmarks/gpu.py runs them.

In a process of pytest-xdist a test that hangs, or leaves CUDA unusable, ends its process: xdist reports that test and
starts another process for those that follow, which would fail for no fault of their own.
"""

from __future__ import annotations

import faulthandler
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS warns in deterministic mode without it


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/gpu" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


# Seconds for a test in a process that can be replaced; three times as many where torch.compile is tested.
PATIENCE = float(os.environ.get("HUNYUAN_GPU_TEST_SECONDS", "25"))


@pytest.fixture(scope="session", autouse=True)
def _device_is_ready():
    """Set-up of the device, so that no test pays for the first call of a process."""
    if torch.cuda.is_available():
        entry = torch.ones(8, 8, device="cuda", dtype=torch.double)
        assert (entry @ entry).sum().item() == 512


@pytest.fixture(autouse=True)
def _alone_with_its_faults(request, _device_is_ready):
    """Tests of a group of which one has ended its process are skipped: they would do the same, one after the other."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    folder = Path(tempfile.gettempdir()) / f"hunyuan-gpu-tests-{os.environ['PYTEST_XDIST_TESTRUNUID']}"
    folder.mkdir(exist_ok=True)
    group = _group(request)
    for mark in folder.glob(f"{group}.*"):
        if not _runs(mark.suffix[1:]):
            pytest.skip("a test like this has ended its process")
    mark = folder / f"{group}.{os.getpid()}"
    mark.touch()
    patience = PATIENCE * (3 if "compile" in group else 1)
    faulthandler.dump_traceback_later(patience, exit=True, file=sys.__stderr__)
    yield
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        os._exit(1)
    faulthandler.cancel_dump_traceback_later()
    mark.unlink()


def _runs(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"  # ended, not yet collected
    except OSError:
        return False


def _group(request) -> str:
    """A test with all its parameters, but for the operation of a case."""
    case = getattr(request.node, "callspec", None) and request.node.callspec.params.get("case")
    name = f"{request.node.path.stem}-{request.node.originalname}-{case.op if case else ''}"
    return re.sub(r"\W+", "-", name)


@pytest.fixture(autouse=True)
def _seeded_and_poisoned():
    """torch.empty returns NaN: what a kernel forgets to write shows. Warnings only, as cuDNN is a baseline here."""
    torch.manual_seed(0)
    torch._C._set_deterministic_algorithms(True, warn_only=True)
    yield
    torch._C._set_deterministic_algorithms(False)
