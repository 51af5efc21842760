"""The report of the kernel suite (pytest-benchmark's JSON) as measurements.

`python -m benchmarks.kernel_results` prints where `make bench` keeps this machine's.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.machine import slug
from benchmarks.results import RESULTS, Measurement


def kernel_file(folder: Path = RESULTS) -> Path:
    return folder / f"{slug()}-kernels.json"


def read_kernels(path: Path) -> list[Measurement]:
    """Empty where the suite has not run. Errors are absolute, against float64."""
    if not path.exists():
        return []
    found = []
    for one in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]:
        info, stats = one["extra_info"], one["stats"]
        found.append(
            Measurement(
                info["op"], info["size"], info["dtype"], info["contender"], "s",
                stats["median"], stats["min"], stats["rounds"], info["max_abs_error"],
            )
        )  # fmt: skip
    return found


if __name__ == "__main__":
    print(kernel_file())
