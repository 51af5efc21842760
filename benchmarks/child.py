"""Tasks of system.py in a process with other settings: python -m benchmarks.child SCALE FILE TASK...

FILE holds the measurements so far, as JSON, after each of them: a process that is ended keeps what it has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks import compiled, minis, tasks
from benchmarks.results import Measurement, write

_LEAN = {"dtypes": ("bfloat16",), "lean": True}
TASKS: dict[str, Callable[[minis.Scale], Iterator[Measurement]]] = {
    "dit": partial(tasks.dit, **_LEAN),
    "vae": partial(tasks.vae_decode, **_LEAN),
    "pipeline": partial(tasks.pipeline, **_LEAN),
    "compiled": compiled.compiled,
}


def main(scale_name: str, file: str, *names: str) -> None:
    found = []
    for name in names:
        for one in TASKS[name](minis.SCALES[scale_name]):
            found.append(asdict(one))
            write(Path(file), json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
