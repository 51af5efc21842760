"""Tasks of system.py in a process with another allocator: python -m benchmarks.child SCALE FILE TASK..."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import minis, tasks


def main(scale_name: str, file: str, *names: str) -> None:
    scale = minis.SCALES[scale_name]
    found = [asdict(one) for name in names for one in getattr(tasks, name)(scale, dtypes=("bfloat16",))]
    Path(file).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
