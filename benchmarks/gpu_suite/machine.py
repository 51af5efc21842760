"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("triton", "diffusers", "flash-attn", "flash-attn-4", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12")


def describe_machine(root: Path) -> dict[str, Any]:
    """Device, driver, compiler, versions, state of the repository: all a reader needs to compare two results."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cpu_cores": os.cpu_count(),
        "commit": _output("git", "-C", str(root), "describe", "--always", "--dirty"),
        "nvcc": _output("nvcc", "--version").rpartition("release ")[2].partition(",")[0],
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        query = "--query-gpu=driver_version,power.limit,clocks.max.sm,clocks.max.mem"
        facts |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "l2_mb": round(getattr(properties, "L2_cache_size", 0) / 1e6, 1),
            "driver, power limit, clocks": _output("nvidia-smi", query, "--format=csv,noheader"),
        }
    return facts


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
