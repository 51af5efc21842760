"""Compiles kernel sources, without a GPU and without linking; `make cuda-check` does so with all of them, for the
architecture of their folder, or else the oldest and the newest.

Objects and what ptxas said are kept in build/sass for a state of the sources, so tests do not compile what
it has compiled. Needs nothing but Python and nvcc.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
FOLDER = ROOT / "build" / "sass"
ARCHS = {"sm80": ["sm_80", "sm_89"], "sm89": ["sm_89"], "sm90": ["sm_90a"]}  # by folder
EVERY = ["sm_80", "sm_90a"]  # the oldest and the newest, for what builds everywhere


@functools.cache
def sources_stamp() -> str:
    files = sorted(path for path in CSRC.rglob("*") if path.suffix in (".cu", ".cuh", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def compiled_object(source: str, arch: str) -> tuple[Path, str]:
    """The object of csrc/`source` for `arch` ("sm_90a") and the report of ptxas; RuntimeError with nvcc's words."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = f"{source.replace('/', '-').removesuffix('.cu')}-{arch}"
    target, log = (FOLDER / f"{name}-{sources_stamp()}{suffix}" for suffix in (".o", ".log"))
    if not (target.exists() and log.exists()):
        for old in FOLDER.glob(f"{name}-*"):
            if sources_stamp() not in old.name:
                old.unlink(missing_ok=True)
        partial, report = (path.with_suffix(f".{os.getpid()}{path.suffix}") for path in (target, log))
        command = [
            "nvcc", "-c", "-std=c++17", "-O3", "--expt-relaxed-constexpr", "-Xptxas", "-v",
            "-gencode", f"arch=compute_{arch[3:]},code={arch}", f"-I{CSRC}", f"-I{CSRC / 'include'}",
            f'-DHUNYUAN_CUDA_ARCHS="{arch}"', str(CSRC / source), "-o", str(partial),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        report.write_text(done.stderr)
        os.replace(report, log)
        os.replace(partial, target)
    return target, log.read_text()


def main() -> int:
    if not shutil.which("nvcc"):
        print("cuda-check: skipped, there is no nvcc on PATH")
        return 0
    sources = sorted(path.relative_to(CSRC) for path in CSRC.rglob("*.cu"))
    jobs = [(source.as_posix(), arch) for source in sources for arch in ARCHS.get(source.parent.name, EVERY)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for (source, arch), _ in zip(jobs, pool.map(compiled_object, *zip(*jobs, strict=True)), strict=True):
                print(f"cuda-check: {source} for {arch}", flush=True)
        except RuntimeError as error:
            pool.shutdown(cancel_futures=True)
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
