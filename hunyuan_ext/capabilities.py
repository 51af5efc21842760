"""Capabilities of the build and the machine, and the choice of each op: for `hunyuan-video doctor`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from hunyuan_ext.attention.autograd import missing_attention
from hunyuan_ext.core import native
from hunyuan_ext.core.dispatch import DESCRIPTIONS, KERNELS, no_gradients
from hunyuan_ext.core.types import BFLOAT, FLOAT

DTYPES = {"float32": FLOAT, "bfloat16": BFLOAT}
CONDITIONS = (
    "Without gradients native kernels take plain tensors outside autocast; with gradients those of bfloat16 on a CPU, "
    "by autocast or by themselves. Everything else is composed from torch operations, so training works everywhere."
)


def capabilities() -> dict:
    """A plain dict of the build, the machine and the choices; costs milliseconds.

    "build": how the native module was compiled ({"native": False, "reason": ...} without one). "machine": processor,
    its features, threads, CUDA devices. "ops": {op: {device: {dtype: {"implementation", "reason"}}}}, implementation
    one of "native", "torch" and "native + torch" (a native pass around torch's operation). "cuda_kernels": {kernel:
    {"dtypes", "archs": {architecture: what does the work there}, "gpus": those of this machine that it runs on}}.
    "training": {op: as in "ops"}, with gradients in bfloat16 on the CPU.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return {
        "version": _version(),
        "backend": native.mode,
        "build": _build(),
        "machine": _machine(),
        "conditions": CONDITIONS,
        "ops": {
            op: {device: {name: describe(device, dtype) for name, dtype in DTYPES.items()} for device in devices}
            for op, describe in DESCRIPTIONS.items()
        },
        "cuda_kernels": _cuda_kernels(),
        "training": _training(),
    }


def _version() -> str:
    try:
        return version("hunyuan-ext")
    except PackageNotFoundError:  # run from a source tree
        return native.module.build_facts()["version"] if native.module else "unknown"


def _build() -> dict:
    if native.module is None:
        return {"native": False, "reason": native.missing}
    entries = dict(native.module.build_facts())
    entries["cuda_archs"] = list(native.cuda_archs())
    return {"native": True, **entries, "isa": list(entries["isa"]), "file": Path(str(native.module.__file__)).name}


def _machine() -> dict:
    module = native.module
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": _cpu_name(),
        "cpu_features": module.cpu_features().split() if module else [],
        "isa": native.isa(),
        "threads": torch.get_num_threads(),
        "bfloat16_matmul": native.bfloat16_matmul(),
        "cuda_devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _cpu_name() -> str:
    """The processor's name as the kernel reports it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cuda_kernels() -> dict:
    """Kernels built for GPUs, one by one; empty without CUDA kernels."""
    built = native.cuda_archs()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    entries = {}
    for name, kernel in KERNELS.items():
        if not built or "cuda" not in kernel.dtypes:
            continue
        work = kernel.tensor_cores or dict.fromkeys(built, "vector loads and stores")
        archs = {arch: how for arch, how in work.items() if arch in built}
        runs = [
            i for i in range(gpus) if any(native.runs_on(arch, *torch.cuda.get_device_capability(i)) for arch in archs)
        ]
        dtypes = [str(dtype).removeprefix("torch.") for dtype in kernel.dtypes["cuda"]]
        entries[name] = {"dtypes": dtypes, "archs": archs, "gpus": runs}
    return entries


def _training() -> dict[str, dict]:
    """{op: {"implementation", "reason"}} of training in bfloat16 on the CPU."""
    entries = {}
    for op in ("rope_attention", "layer_norm_modulate", "gate_residual", "split_gelu"):
        why = missing_attention() if op == "rope_attention" else no_gradients()
        entries[op] = {
            "implementation": "torch" if why else "native",
            "reason": why or "own forward and backward passes",
        }
    return entries
