"""CUDA kernels run on the CPU by tests/cuda/emulator: builds them with g++ and calls them with torch CPU tensors.

`kernels()` gives the library; `kernels().call("gate_residual", x=x, ...)` fills hunyuan_gate_residual_args, whose
fields are read from the C headers, and raises with the kernel's message when it fails.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "tests" / "cuda" / "emulator"
HEADERS = ROOT / "csrc" / "include"
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-w", "-include", "emulator.h", "-DHUNYUAN_WITH_CUDA",
         '-DHUNYUAN_CUDA_ARCHS="emulated"']  # fmt: skip
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float8_e4m3fn: 3}
CTYPES = {"int64_t": ctypes.c_int64, "float": ctypes.c_float, "int": ctypes.c_int, "enum": ctypes.c_int}


def kernel_sources() -> list[Path]:
    """The .cu files whose kernels use nothing but what the emulator models."""
    families = ("attention", "norm", "conv3d", "linear")
    sources = (source for family in families for source in (ROOT / "csrc" / family).glob("*/*.cu"))
    return sorted(sources)


def cuda_include() -> Path | None:
    """The toolkit's headers: beside nvcc, or from the nvidia-cuda-runtime wheel."""
    nvcc = shutil.which("nvcc")
    roots = [os.environ.get("CUDA_HOME"), Path(nvcc).resolve().parents[1] if nvcc else None, "/usr/local/cuda"]
    folders = [Path(root) / "include" for root in roots if root]
    return next((folder for folder in folders if (folder / "cuda_runtime.h").exists()), None)


def structures() -> dict[str, type[ctypes.Structure]]:
    """ctypes mirrors of the argument structures in the C headers, by op."""
    headers = "\n".join(header.read_text() for header in sorted(HEADERS.rglob("*.h")))
    text = re.sub(r"/\*.*?\*/", "", headers, flags=re.S)
    result = {}
    for body, op in re.findall(r"typedef struct \w+ \{([^{}]*)\} hunyuan_(\w+)_args;", text):
        fields = []
        for declaration in filter(None, map(str.strip, body.split(";"))):
            kind, name, counts = re.fullmatch(r"(.*?[\s*])(\w+)((?:\[\d+\])*)", declaration, flags=re.S).groups()
            kind = kind.replace("const ", "").strip()
            nested = result.get(kind.removeprefix("hunyuan_").removesuffix("_args"))
            ctype = ctypes.c_void_p if kind.endswith("*") else nested or CTYPES[kind.split()[0]]
            for count in reversed(re.findall(r"\d+", counts)):
                ctype = ctype * int(count)
            fields.append((name, ctype))
        result[op] = type(op, (ctypes.Structure,), {"_fields_": fields})
    return result


class Kernels:
    """The emulated library; `seed` shuffles the order of threads and the moments of asynchronous work."""

    def __init__(self, library: ctypes.CDLL):
        self.library = library
        self.structures = structures()
        self.library.hunyuan_last_error.restype = ctypes.c_char_p

    def arguments(self, op: str, **values) -> ctypes.Structure:
        args = self.structures[op]()
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                value = value.data_ptr()
            elif isinstance(value, torch.dtype):
                value = DTYPES[value]
            elif isinstance(value, (tuple, list)):
                value = type(getattr(args, name))(*value)
            setattr(args, name, value)
        return args

    def call(self, op: str, seed: int = 0, arch: str = "", **values) -> None:
        """Runs the op, or its kernel for one architecture such as "sm90"."""
        os.environ["HUNYUAN_EMULATOR_SEED"] = str(seed)
        args = self.arguments(op, **values)
        name = f"emulated_{arch}_{op}" if arch else f"emulated_{op}"
        if getattr(self.library, name)(ctypes.byref(args)):
            raise RuntimeError(self.library.hunyuan_last_error().decode())

    def prepare_heads(self, norms=(None,) * 4, rope=None, text_tokens: int = 0, eps: float = 1e-6) -> None:
        """Preparation of q and k in the next FP8 attention; norms of q, k, text q, text k."""
        pointers = [None if norm is None else norm.data_ptr() for norm in norms]
        dtype = next((norm.dtype for norm in norms if norm is not None), torch.float32)
        tables = {}
        if rope is not None:
            tables = dict(cos=rope[0], sin=rope[1], cos_stride=rope[0].stride(0), sin_stride=rope[1].stride(0))
        self.call("norm_rope", norm=pointers[:2], text_norm=pointers[2:], text_tokens=text_tokens, eps=eps,
                  norm_dtype=dtype, **tables)  # fmt: skip

    def number(self, function: str, op: str, **values) -> int:
        """The result of a sizing function such as group_norm_silu_workspace."""
        call = getattr(self.library, f"emulated_{function}")
        call.restype = ctypes.c_int64
        return call(ctypes.byref(self.arguments(op, **values)))

    def machine(self, capability: int = 90, refusal: int = 0, device: int = 0, stream: int = 0) -> None:
        """From now on: two devices of this capability, calls for `device` on `stream`, and the runtime answers every
        question about devices with the error `refusal`; forgets the history."""
        self.library.emulated_machine(capability, refusal, device, ctypes.c_void_p(stream))

    def history(self) -> dict[str, int]:
        """Kernels started since `machine`, their device (-1: several) and stream, and the current device."""
        numbers = [ctypes.c_int64() for _ in range(4)]
        self.library.emulated_history(*map(ctypes.byref, numbers))
        return dict(zip(("launches", "device", "stream", "current"), (n.value for n in numbers), strict=True))


def compile_object(source: Path, flags: list[str], folder: Path, stamp: str) -> Path:
    target = folder / f"{'-'.join(source.parts[-3:-1])}-{source.stem}-{stamp}.o"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}.partial")
        command = ["g++", *FLAGS, *flags, "-x", "c++", "-c", str(source), "-o", str(partial)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
        os.replace(partial, target)
    return target


class Build:
    """Objects and libraries of one state of the sources, in build/emulator; skips where they cannot be built."""

    def __init__(self):
        include = cuda_include()
        if include is None or shutil.which("g++") is None:
            pytest.skip("the emulator needs g++ and the headers of a CUDA toolkit")
        files = [path for folder in (ROOT / "csrc", EMULATOR) for path in folder.rglob("*") if path.is_file()]
        self.stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]
        self.folder = ROOT / "build" / "emulator"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.flags = [f"-I{path}" for path in (EMULATOR, ROOT / "csrc", HEADERS, include)]

    def library(self, name: str, sources: list[Path], flags: tuple[str, ...] = ()) -> Path:
        target = self.folder / f"{name}-{self.stamp}.so"
        with open(self.folder / ".lock", "w") as lock:  # one process compiles, the others wait for it
            fcntl.flock(lock, fcntl.LOCK_EX)
            return target if target.exists() else self.build(target, sources, flags)

    def build(self, target: Path, sources: list[Path], flags: tuple[str, ...]) -> Path:
        with ThreadPoolExecutor(max_workers=2) as pool:
            objects = pool.map(
                lambda source: compile_object(source, [*self.flags, *flags], self.folder, self.stamp), sources
            )
            parts = list(map(str, objects))
        partial = target.with_suffix(f".{os.getpid()}.partial")
        subprocess.run(["g++", "-shared", "-o", str(partial), *parts], check=True)
        os.replace(partial, target)
        for old in self.folder.glob("*"):
            if self.stamp not in old.name and old.name != ".lock":
                old.unlink()
        return target


def emulated_sources() -> list[Path]:
    common = ROOT / "csrc" / "common"
    shared = [common / "cuda" / "device.cu", common / "host" / "status.cpp"]
    return [*kernel_sources(), *sorted(EMULATOR.glob("*.cpp")), *shared]


@functools.cache
def kernels() -> Kernels:
    """The emulated kernels behind emulator/entry.cpp; built once for a state of the sources."""
    return Kernels(ctypes.CDLL(str(Build().library("kernels", emulated_sources()))))


@functools.cache
def binding():
    """hunyuan_ext._C with the emulated kernels in place of the device: CPU tensors stand for CUDA ones.

    Functions of the C ABI that emulator/binding/entries.cpp does not define end the process.
    """
    pybind11 = pytest.importorskip("pybind11")
    build = Build()
    folder = EMULATOR / "binding"
    headers = "\n".join(header.read_text() for header in sorted(HEADERS.rglob("*.h")))
    declared = re.findall(r"(hunyuan_\w+)\(", re.sub(r"/\*.*?\*/", "", headers, flags=re.S))
    defined = re.findall(r"(hunyuan_\w+)\(", (folder / "entries.cpp").read_text())
    defined += ["hunyuan_abi_version", "hunyuan_last_error", "hunyuan_built_cuda_archs", "hunyuan_cuda_device_count"]
    absent = build.folder / f"absent-{build.stamp}.cpp"
    text = "#include <cstdlib>\n" + "".join(
        f'extern "C" void {name}() {{ std::abort(); }}\n' for name in sorted(set(declared) - set(defined))
    )
    absent.write_text(text)
    bindings = sorted((ROOT / "csrc" / "bindings").glob("*.cpp"))
    sources = [*emulated_sources(), *bindings, *sorted(folder.glob("*.cpp")), absent]
    flags = (f"-I{pybind11.get_include()}", f"-I{sysconfig.get_paths()['include']}", '-DHUNYUAN_VERSION="emulated"',
             '-DHUNYUAN_COMPILER="g++"', '-DHUNYUAN_INTERFACE="emulated"')  # fmt: skip
    spec = importlib.util.spec_from_file_location("_C", build.library("binding", sources, flags))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
