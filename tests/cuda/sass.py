"""Compiles a kernel source to machine code and reads what the compiler and the disassembler say about it.

Needs nvcc, and `cuobjdump` and `nvdisasm` on PATH or from the wheels nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm
(13.2.78); skips the test that asks where they are missing.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nvcc import compiled_object


@dataclass
class Kernel:
    """One kernel: `opcodes` counts instructions by the first part of their name, `text` holds them in order."""

    registers: int
    stack_bytes: int
    spilled_bytes: int
    opcodes: Counter = field(default_factory=Counter)
    text: list[str] = field(default_factory=list)


def tool(name: str) -> str:
    wheels = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "bin"
    result = shutil.which(name) or shutil.which(name, path=str(wheels))
    if result is None:
        pytest.skip(f"needs {name}: the CUDA toolkit, or pip install --no-deps nvidia-cuda-{name}==13.2.78")
    return result


@functools.cache
def compiled(source: str, arch: str) -> tuple[dict[str, Kernel], str]:
    """Kernels of csrc/`source` for `arch` ("sm_90a") by mangled name, and everything ptxas said."""
    tool("nvcc")
    cuobjdump, nvdisasm = tool("cuobjdump"), tool("nvdisasm")
    binary, log = compiled_object(source, arch)
    environment = os.environ | {"PATH": f"{Path(nvdisasm).parent}{os.pathsep}{os.environ['PATH']}"}
    dump = subprocess.run(
        [cuobjdump, "-sass", str(binary)], capture_output=True, text=True, env=environment, check=True
    )
    kernels = read_log(log)
    read_sass(dump.stdout, kernels)
    return kernels, log


def read_log(text: str) -> dict[str, Kernel]:
    """Report of `ptxas -v` on each kernel."""
    pattern = (
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers"
    )
    return {
        name: Kernel(int(registers), int(stack), int(stores) + int(loads))
        for name, stack, stores, loads, registers in re.findall(pattern, text, flags=re.S)
    }


def read_sass(text: str, kernels: dict[str, Kernel]) -> None:
    kernel = None
    for line in text.splitlines():
        if match := re.search(r"Function : (\w+)", line):
            kernel = kernels[match[1]]
        elif (match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S[^;]*?)\s*;", line)) and kernel:
            kernel.text.append(match[1])
            kernel.opcodes[match[1].split()[0].split(".")[0]] += 1
