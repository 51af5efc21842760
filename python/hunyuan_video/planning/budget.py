"""Sizes of memory: written by people, and what this machine gives (its limits, not only what is free)."""

from __future__ import annotations

import re
from pathlib import Path

from hunyuan_video.errors import ArgumentError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_UNLIMITED = 1 << 60
_CGROUP = Path("/sys/fs/cgroup")


def parse_size(name: str, value: str | int | float) -> int:
    """Bytes of "16GB" (10^9 each), "16GiB" (2^30), "16G", or a number of bytes; ArgumentError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        size = float(value)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*", str(value), flags=re.IGNORECASE)
        if match is None or (match[3] and not match[2]):
            raise ArgumentError(f"{name} must be a size such as 16GB or 24GiB, got {value!r}")
        size = float(match[1]) * (BINARY if match[3] else UNITS)[match[2].upper()]
    if not 1 <= size < _UNLIMITED:
        raise ArgumentError(f"{name} must be a size such as 16GB or 24GiB, at least one byte, got {value!r}")
    return int(size)


def shown(size: float) -> str:
    """ "13.9 GB" or "71 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def host_limit(root: Path = _CGROUP, process: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes that this process may come to hold: the machine's memory, or less where a control group says so.

    Both versions of control groups, the least of all ancestors; None where nothing is known.
    """
    limits = [size for size in (_machine_memory(), *_group_limits(root, process)) if size is not None]
    return min(limits, default=None)


def host_available() -> int | None:
    """Bytes that are free or can be made so now, within the limits; None where nothing is known."""
    free = _meminfo("MemAvailable")
    limit = host_limit()
    return min((size for size in (free, limit) if size is not None), default=None)


def resident() -> int:
    """Bytes of this process that are in memory now; 0 where the system does not say."""
    return _status("VmRSS")


def most_resident() -> int:
    """The most bytes of this process that were in memory at once; 0 where the system does not say."""
    return _status("VmHWM")


def _status(field: str) -> int:
    return _kilobytes(Path("/proc/self/status"), field) or 0


def _meminfo(field: str) -> int | None:
    return _kilobytes(Path("/proc/meminfo"), field)


def _machine_memory() -> int | None:
    return _meminfo("MemTotal")


def _kilobytes(path: Path, field: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def _group_limits(root: Path, process: Path) -> list[int]:
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return []
    limits: list[int] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            limits += _up(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _up(root / "memory", path, "memory.limit_in_bytes")
    return limits


def _up(root: Path, path: str, name: str) -> list[int]:
    """The limits of a group and its ancestors; inside a container the group's own path may not be visible."""
    limits = []
    folder = root / path.strip("/")
    while True:
        try:
            text = (folder / name).read_text().strip()
            if text.isdigit() and int(text) < _UNLIMITED:
                limits.append(int(text))
        except OSError:
            pass
        if folder == root or root not in folder.parents:
            return limits
        folder = folder.parent
