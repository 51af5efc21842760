"""`make bench`: the kernel suite, then the system suite: python -m benchmarks [--quick] [--output FOLDER]"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hunyuan_ext
from benchmarks import machine, system
from benchmarks.kernel_results import kernel_file

KERNEL_MINUTES = 2


def main(argv: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, add_help=False).parse_known_args(argv)[1]
    args = system.parse(options)
    started = time.perf_counter()
    if hunyuan_ext.capabilities()["build"]["native"] and not (args.quick or args.only):
        minutes = sum(part.seconds for part in system.PARTS.values()) / 60 + KERNEL_MINUTES
        system.tell(f"about {minutes:.0f} minutes; other work on this machine makes the numbers wrong")
        system.tell(f"operations: about {KERNEL_MINUTES} minutes")
        try:
            code = kernels(kernel_file(args.output))
        except KeyboardInterrupt:
            system.tell("interrupted; earlier results are kept")
            return 130
        if code:
            return code
    code = system.main(options)
    system.tell(f"{(time.perf_counter() - started) / 60:.1f} minutes")
    return code


def kernels(path: Path) -> int:
    """Runs the kernel suite; only a run that ends well replaces the report of an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kernels-") as folder:
        made = Path(folder) / path.name
        command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "--benchmark-quiet", "-q"]
        code = subprocess.run([*command, "-rs", f"--benchmark-json={made}"], cwd=machine.ROOT).returncode
        if code == 0:
            os.replace(made, path)
    return code


if __name__ == "__main__":
    sys.exit(main())
