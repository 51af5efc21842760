"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from hunyuan_ext.core import heap

CODE = """
from hunyuan_ext.core.heap import release_free_memory

def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])

before = resident()
held = [bytearray(100_000) for _ in range(1000)]  # below the size that glibc maps on its own
kept = held[-1]
for one in held:
    one[::4096] = bytes(len(one[::4096]))
del held, one
full = resident()
release_free_memory()
print(full - before, resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_pages_of_freed_memory_leave_the_process():
    path = [path for path in sys.path if path]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{CODE}"], capture_output=True)
    assert done.returncode == 0, done.stderr
    full, left = (int(word) for word in done.stdout.split())
    assert full > 50e6 and left < 20e6


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(heap, "_malloc_trim", lambda: None)
    heap.release_free_memory()
