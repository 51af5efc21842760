"""Description of the machine: device, libraries, commit, load; and the best rates that the device reaches then."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hunyuan_ext
from benchmarks.timing import alternate, gpu_times

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "av")
GPU_LIBRARIES = ("triton", "diffusers", "flash-attn", "flash-attn-4", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12")
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_vbmi", "amx_bf16", "amx_int8")


def machine_facts() -> dict[str, Any]:
    """Everything about the machine and the software that does not change during a run; no host names, no paths."""
    return {
        "device": cpu_name(),
        "cores": usable_cores(),
        "instructions": cpu_flags(),
        "memory_gb": round(_meminfo("MemTotal") / 1e9, 1),
        "system": platform.system() + " " + platform.release().split("-")[0],
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads(),
        "omp_environment": {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "KMP_"))},
        "huge_pages": _text("/sys/kernel/mm/transparent_hugepage/enabled"),
        "libraries": {name: version(name) for name in LIBRARIES},
        "kernels": hunyuan_ext.capabilities()["machine"]["isa"],
    }


def gpu_facts() -> dict[str, Any]:
    """The same of a machine with a GPU: device, driver, compiler and what the peers come from."""
    about: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvcc": _output("nvcc", "--version").rpartition("release ")[2].partition(",")[0],
        "libraries": {name: release for name in GPU_LIBRARIES if (release := version(name))},
        "cores": os.cpu_count(),
    }
    if not torch.cuda.is_available():
        return about
    properties = torch.cuda.get_device_properties(0)
    query = "--query-gpu=driver_version,power.limit,clocks.max.sm,clocks.max.mem"
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "l2_mb": round(getattr(properties, "L2_cache_size", 0) / 1e6, 1),
        "driver, power limit, clocks": _output("nvidia-smi", query, "--format=csv,noheader"),
        **about,
    }


@dataclass(frozen=True)
class Ceilings:
    """Best rates of a device on random data: a copy in TB/s (read + written), products in TFLOP/s by type."""

    copy: float
    product: dict[str, float]

    def of(self, unit: str, dtype: str) -> float:
        return self.copy if unit == "TB/s" else self.product.get(dtype, float("nan"))


def measure_ceilings(device: str, quick: bool = False) -> Ceilings:
    """Measured now, so that they belong to the run. quick: small tensors, which say nothing."""
    if device == "cpu":
        return _cpu_ceilings(quick)
    source, target = (torch.randint(0, 255, (4 << 30,), dtype=torch.uint8, device=device) for _ in range(2))
    copy = 2 * source.numel() / _on_gpu(lambda: target.copy_(source)) / 1e9
    size = 8192
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    work = 2.0 * size**3 / 1e9
    product = {"bfloat16": work / _on_gpu(lambda: a @ b)}
    try:
        scalar = torch.ones((), device=device)
        a8, b8 = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()
        product["fp8"] = work / _on_gpu(lambda: scaled_mm(a8, b8, scalar, scalar))
    except RuntimeError:  # no FP8 tensor cores before compute capability 8.9
        pass
    return Ceilings(copy, product)


def _on_gpu(run: Callable[[], object]) -> float:
    return gpu_times(run).median


def _cpu_ceilings(quick: bool) -> Ceilings:
    length = 1 << (20 if quick else 27)
    source, target = torch.zeros(length), torch.zeros(length)
    copy = 2 * source.nbytes / _best(lambda: target.copy_(source)) / 1e12
    product = {}
    for dtype, size in (("bfloat16", 4096), ("float32", 2048)):
        size = 64 if quick else size
        a, b = (torch.randn(size, size).to(getattr(torch, dtype)) for _ in range(2))
        product[dtype] = 2 * size**3 / _best(lambda a=a, b=b: torch.mm(a, b)) / 1e12
    return Ceilings(copy, product)


def _best(run: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of some calls."""
    return min(alternate({"": run}, rounds=(repeats, repeats), seconds=0)[0][""])


def scaled_mm(
    a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, bias: Tensor | None = None, fast: bool = True
) -> Tensor:
    """torch's FP8 product: e4m3 [M, K] x [K, N] column-major -> bf16; scales of tensors or of rows and columns; fast:
    sums stay in the tensor cores."""
    return torch._scaled_mm(
        a, b, scale_a=a_scale, scale_b=b_scale, bias=bias, out_dtype=torch.bfloat16, use_fast_accum=fast
    )


def part_facts() -> dict[str, Any]:
    """Description of what may differ between the parts of a run."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"date": now.isoformat(timespec="seconds"), "commit": commit()}


def slug() -> str:
    """A file name for results of this kind of processor, e.g. "intel-xeon-processor-amx-2-cores"."""
    name = cpu_name() + (" amx" if "amx_bf16" in cpu_flags() else "")
    words = re.sub(r"\(r\)|\(tm\)|@.*|cpu|\d+-core", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9]+", words)) + f"-{usable_cores()}-cores"


def load() -> float:
    """Processes that wanted to run, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


class Others:
    """Share of the processors that other processes (or a virtual machine's host) took since this was made."""

    def __init__(self) -> None:
        self.started, self.busy, self.own = time.perf_counter(), _busy(), _own()

    def share(self) -> float | None:
        """0 to 1 of all processors; None where the system does not tell. Children count as own once they have ended."""
        if self.busy is None or (busy := _busy()) is None:
            return None
        seconds = (time.perf_counter() - self.started) * (os.cpu_count() or 1)
        return round(max(busy - self.busy - (_own() - self.own), 0.0) / max(seconds, 1e-9), 3)


def _own() -> float:
    return sum(os.times()[:4])


def _busy() -> float | None:
    """Seconds that all processors together have not been idle."""
    line = _text("/proc/stat")
    if line is None:
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in line.split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    flags = set(_cpuinfo("flags").split())
    return [name for name in INSTRUCTIONS if name in flags]


def version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """The commit of the working tree, "+" if files differ from it; "unknown" outside a clone."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(*words: str) -> str:
    command = ["git", "-c", "safe.directory=*", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _output(*command: str) -> str:
    """Output of a tool; nothing where it is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


def _cpuinfo(key: str) -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    match = re.search(rf"^{key}\s*:\s*(.*)$", text, re.M)
    return match[1] if match else ""


def _meminfo(key: str) -> float:
    text = Path("/proc/meminfo").read_text() if Path("/proc/meminfo").exists() else ""
    match = re.search(rf"^{key}:\s*(\d+) kB", text, re.M)
    return 1024.0 * int(match[1]) if match else 0.0


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
