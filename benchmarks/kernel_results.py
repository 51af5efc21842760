"""The report of the kernel suite (pytest-benchmark's JSON) as measurements.

`python -m benchmarks.kernel_results` prints where `make bench` keeps this machine's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.machine import slug
from benchmarks.results import RESULTS, Measurement, as_section


def kernel_file(folder: Path = RESULTS) -> Path:
    return folder / f"{slug()}-kernels.json"


def kernel_section(path: Path) -> dict[str, Any] | None:
    """The suite's report as a section of results; None where it has not run. Errors are absolute, against float64."""
    if not path.exists():
        return None
    report = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for one in report["benchmarks"]:
        info, stats = one["extra_info"], one["stats"]
        found.append(
            Measurement(
                info["op"], info["size"], info["dtype"], info["contender"], "s",
                stats["median"], stats["min"], stats["rounds"], info["max_abs_error"],
            )
        )  # fmt: skip
    return as_section(found, **report["section"])


if __name__ == "__main__":
    print(kernel_file())
