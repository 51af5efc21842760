"""Compiles the candidates: python -m benchmarks.gpu.candidates.build FOLDER [--cutlass FOLDER_OF_HEADERS].

One shared object each, all at once: FOLDER/<name>.so. Those from CUTLASS need its headers, 4 GB and a minute each;
an installed nvidia-cutlass is found, and without one they are left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
FLAGS = ("-O3", "-std=c++17", "-gencode", "arch=compute_90a,code=sm_90a", "--expt-relaxed-constexpr", "-shared")


@dataclass(frozen=True)
class Unit:
    name: str
    defines: tuple[str, ...]
    cutlass: bool = False


def own(promote: bool) -> Unit:
    return Unit("own_promoted" if promote else "own", (f"-DPROMOTE={int(promote)}",))


def cutlass(rows: int, columns: int, schedule: str, finish: str, cluster: tuple[int, int] = (2, 1)) -> Unit:
    name = f"cutlass_{rows}x{columns}_{schedule.lower()}_{cluster[0]}x{cluster[1]}_{finish}"
    epilogue = "TmaWarpSpecialized" + ("Cooperative" if schedule == "Cooperative" else "")
    defines = (f"-DTM={rows}", f"-DTN={columns}", f"-DCM={cluster[0]}", f"-DCN={cluster[1]}",
               f"-DKERNEL=KernelTmaWarpSpecialized{schedule}FP8FastAccum", f"-DEPILOGUE={epilogue}",
               f"-DWHAT={('bias', 'gelu', 'gate').index(finish)}")  # fmt: skip
    return Unit(name, defines, cutlass=True)


UNITS = (
    own(promote=False),
    own(promote=True),
    cutlass(256, 192, "Cooperative", "bias"),
    cutlass(128, 192, "Pingpong", "bias"),
    cutlass(128, 256, "Cooperative", "bias"),
    cutlass(128, 128, "Pingpong", "bias"),
    cutlass(128, 192, "Pingpong", "gelu"),
    cutlass(256, 192, "Cooperative", "gelu"),
    cutlass(128, 128, "Pingpong", "gate"),
    cutlass(256, 192, "Cooperative", "gate"),
    cutlass(128, 256, "Cooperative", "gate"),
)


def compile_unit(unit: Unit, folder: Path, headers: Path | None) -> str:
    """Empty, or why it failed; an object that is there is kept."""
    target = folder / f"{unit.name}.so"
    if target.exists():
        return ""
    source = HERE / ("fp8_cutlass.cu" if unit.cutlass else "fp8.cu")
    sources = [str(source)] + ([] if unit.cutlass else [str(ROOT / "csrc/common/host/status.cpp")])
    includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}"]
    if unit.cutlass:
        assert headers is not None
        includes = [f"-I{headers / 'include'}", f"-I{headers / 'tools/util/include'}"]
    temporary = folder / f"{unit.name}.{os.getpid()}.tmp.so"
    host = "-fPIC,-fvisibility=hidden,-fno-gnu-unique"  # objects of one process that share nothing
    command = ["nvcc", *FLAGS, "-Xcompiler", host, "-DHUNYUAN_WITH_CUDA", *unit.defines, *includes, *sources]
    command += ["-o", str(temporary)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr or done.stdout)[-2000:]
    temporary.rename(target)
    return ""


def installed_headers() -> Path | None:
    spec = find_spec("cutlass_library")
    return Path(spec.origin).parent / "source" if spec and spec.origin else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cutlass", type=Path, help="folder that holds include/cutlass")
    parser.add_argument("--only", default="", help="units whose name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    headers = options.cutlass or installed_headers()
    units = [unit for unit in UNITS if options.only in unit.name and (headers or not unit.cutlass)]
    if headers is None:
        print("CUTLASS: left out, not found (pip install --no-deps nvidia-cutlass==4.2.0.0, or --cutlass FOLDER)")
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda unit: compile_unit(unit, options.folder, headers), units)
        failures = 0
        for unit, problem in zip(units, results, strict=True):
            print(f"{unit.name}: {problem or 'compiled'}", flush=True)
            failures += bool(problem)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
