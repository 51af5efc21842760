"""Compiles and runs the C++ tests beside this file: schedules and layouts that the CUDA kernels share with the host."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"


@pytest.mark.parametrize(
    "source", sorted(HERE.glob("test_*.cpp")), ids=lambda source: source.stem.removeprefix("test_")
)
def test_cpp(source, tmp_path):
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no C++ compiler ({compiler})")
    program = tmp_path / source.stem
    warnings = ["-Wall", "-Wextra", "-Werror"]
    command = [
        compiler,
        "-std=c++17",
        "-O1",
        *warnings,
        f"-I{CSRC}",
        f"-I{CSRC / 'include'}",
        str(source),
        "-o",
        str(program),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    run = subprocess.run([str(program)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
