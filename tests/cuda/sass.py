"""Compiles a kernel source to machine code and reads what the compiler and the disassembler say about it.

Needs nvcc, and `cuobjdump` and `nvdisasm` on PATH or from the wheels nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm
(13.2.78); skips the test that asks where they are missing. Results are kept in build/sass for a state of the sources.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"


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


def sources_stamp() -> str:
    files = sorted(path for path in CSRC.rglob("*") if path.suffix in (".cu", ".cuh", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


@functools.cache
def compiled(source: str, arch: str) -> tuple[dict[str, Kernel], str]:
    """Kernels of csrc/`source` for `arch` ("sm_90a") by mangled name, and everything ptxas said."""
    nvcc, cuobjdump, nvdisasm = tool("nvcc"), tool("cuobjdump"), tool("nvdisasm")
    folder = ROOT / "build" / "sass"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{source.replace('/', '-').removesuffix('.cu')}-{arch}"
    cubin, log = (folder / f"{name}-{sources_stamp()}{suffix}" for suffix in (".cubin", ".log"))
    if not (cubin.exists() and log.exists()):
        for old in folder.glob(f"{name}-*"):
            old.unlink()
        target = f"arch=compute_{arch[3:]},code={arch}"
        partial = cubin.with_suffix(f".{os.getpid()}.partial")
        command = [
            nvcc, "-cubin", "-std=c++17", "-O3", "--expt-relaxed-constexpr", "-Xptxas", "-v", "-gencode", target,
            f"-I{CSRC}", f"-I{CSRC / 'include'}", f'-DHUNYUAN_CUDA_ARCHS="{arch}"', str(CSRC / source),
            "-o", str(partial),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        os.replace(partial, cubin)
        log.write_text(done.stderr)
    environment = os.environ | {"PATH": f"{Path(nvdisasm).parent}{os.pathsep}{os.environ['PATH']}"}
    dump = subprocess.run([cuobjdump, "-sass", str(cubin)], capture_output=True, text=True, env=environment, check=True)
    kernels = read_log(log.read_text())
    read_sass(dump.stdout, kernels)
    return kernels, log.read_text()


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
