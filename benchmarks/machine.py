"""What a measurement was made on: processor, instruction sets, libraries, commit, load."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import hunyuan_ext

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "av")
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_vbmi", "amx_bf16", "amx_int8")


def machine_facts() -> dict[str, Any]:
    """Everything about the machine and the software that does not change during a run; no host names, no paths."""
    return {
        "cpu": cpu_name(),
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


def section_facts() -> dict[str, Any]:
    """What may differ between the parts of a run."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"date": now.isoformat(timespec="seconds"), "commit": commit()}


def slug() -> str:
    """A file name for results of this kind of machine, e.g. "intel-xeon-processor-amx-2-cores"."""
    name = cpu_name() + (" amx" if "amx_bf16" in cpu_flags() else "")
    words = re.sub(r"\(r\)|\(tm\)|@.*|cpu|\d+-core", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9]+", words)) + f"-{usable_cores()}-cores"


def load() -> float:
    """Processes that wanted to run, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


class Others:
    """How much of the processors other processes took (or the host, from a virtual machine) since this was made."""

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


def _cpuinfo(key: str) -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.M)
    return found[1] if found else ""


def _meminfo(key: str) -> float:
    text = Path("/proc/meminfo").read_text() if Path("/proc/meminfo").exists() else ""
    found = re.search(rf"^{key}:\s*(\d+) kB", text, re.M)
    return 1024.0 * int(found[1]) if found else 0.0


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
