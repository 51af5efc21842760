"""The C library: built, installed, and used by the program of docs/c_library.md in every way that the page shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "c_library.md"
STRICT = "-std=c99 -pedantic-errors -Wall -Wextra -Werror"
TOKENS, HEADS, DIM = 6, 2, 16


def run(*command: str | Path, **variables: str) -> str:
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=os.environ | {"PATH": search} | variables
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def tool(*names: str) -> str:
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    program = next((path for name in names if (path := shutil.which(name, path=search))), None)
    if program is None:
        pytest.skip(f"needs {' or '.join(names)}")
    return program


def block(language: str) -> str:
    """The page's first block of a language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


def install(prefix: Path) -> None:
    cmake, ninja, build = tool("cmake"), tool("ninja"), ROOT / "build" / "library"
    options = ["-DHUNYUAN_BUILD=LIBRARY", "-DHUNYUAN_CUDA=OFF", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    if ccache := shutil.which("ccache"):
        options.append(f"-DCMAKE_CXX_COMPILER_LAUNCHER={ccache}")
    run(cmake, "--fresh", "-G", "Ninja", "-S", ROOT, "-B", build, *options)
    run(cmake, "--build", build, "--parallel", "2")
    run(cmake, "--install", build, "--prefix", prefix)


def programs(prefix: Path, folder: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Builds the page's program; its outputs need the environment that comes with each."""
    (folder / "demo.c").write_text(block("c"))
    built = {}
    for target in ("kernels", "kernels_static"):
        source, build = folder / target, folder / f"build-{target}"
        source.mkdir()
        shutil.copy(folder / "demo.c", source)
        (source / "CMakeLists.txt").write_text(block("cmake").replace("hunyuan::kernels ", f"hunyuan::{target} "))
        options = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_C_FLAGS={STRICT}"]
        run(tool("cmake"), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", "-S", source, "-B", build, *options)
        run(tool("cmake"), "--build", build)
        built[target] = str(build / "demo"), {}
    if shutil.which("pkg-config"):
        [libraries] = {path.parent for path in prefix.rglob("libhunyuan_kernels.a")}
        variables = {"PKG_CONFIG_PATH": str(libraries / "pkgconfig")}
        flags = run("pkg-config", "--cflags", "--libs", "hunyuan_kernels", **variables).split()
        run(tool("cc", "gcc"), *STRICT.split(), folder / "demo.c", *flags, "-lm", "-o", folder / "plain")
        built["pkg-config"] = str(folder / "plain"), {"LD_LIBRARY_PATH": str(libraries)}
    return built


def wave(phase: float, *shape: int) -> torch.Tensor:
    return torch.sin(phase + 0.37 * torch.arange(torch.Size(shape).numel(), dtype=torch.float64)).view(shape)


def reference() -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v = (wave(phase, 1, TOKENS, HEADS, DIM).transpose(1, 2) for phase in (0.0, 1.0, 2.0))
    attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.25).transpose(1, 2).flatten(2)
    normed = torch.nn.functional.layer_norm(attended, (HEADS * DIM,), eps=1e-6)
    return attended, normed * (1 + wave(4.0, HEADS * DIM)) + wave(3.0, HEADS * DIM)


def exported(prefix: Path) -> set[str]:
    [library] = {path.resolve() for path in prefix.rglob("libhunyuan_kernels.so")}
    return {line.split()[2] for line in run(tool("nm"), "-D", "--defined-only", library).splitlines()}


def declared() -> set[str]:
    headers = "".join(path.read_text() for path in (ROOT / "csrc" / "include" / "hunyuan").glob("*.h"))
    return set(re.findall(r"HUNYUAN_API [\w* ]*?(hunyuan_\w+)\(", headers))


def test_program_in_c_against_the_installed_library(tmp_path):
    tool("cc", "gcc")
    prefix = tmp_path / "prefix"
    install(prefix)
    assert exported(prefix) == declared()
    attended, normed = reference()
    for name, (program, variables) in programs(prefix, tmp_path).items():
        rows = torch.tensor([[float(x) for x in line.split()] for line in run(program, **variables).splitlines()])
        torch.testing.assert_close(rows[:, 0].double(), attended.flatten(), rtol=1e-5, atol=1e-5, msg=name)
        torch.testing.assert_close(rows[:, 1].double(), normed.flatten(), rtol=1e-4, atol=1e-4, msg=name)
