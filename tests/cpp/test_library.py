"""The C library: built, installed, used by the program of docs/c_library.md in every way that the page shows, and by
examples/c."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "c"
ABI = ROOT / "tests" / "cpp" / "abi.txt"
PAGE = ROOT / "docs" / "c_library.md"
STRICT = "-std=c99 -pedantic-errors -Wall -Wextra -Werror"
HEADERS = sorted((ROOT / "csrc" / "include" / "hunyuan").glob("*.h"))
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
    headers = "".join(path.read_text() for path in HEADERS)
    return set(re.findall(r"HUNYUAN_API [\w* ]*?(hunyuan_\w+)\(", headers))


def numbers(phase: float, *shape: int) -> np.ndarray:
    """The inputs that `fill` of examples/c/example.h writes: angles in float32."""
    angles = np.float32(phase) + np.float32(0.37) * np.arange(np.prod(shape), dtype=np.float32)
    return np.sin(angles.astype(np.float64)).reshape(shape)


def attention_reference() -> np.ndarray:
    batch, tokens, heads, dim = 2, 9, 3, 32
    q, k, v = np.moveaxis(numbers(0.5, batch, tokens, 3, heads, dim), 2, 0)
    scores = 0.2 * np.einsum("bqhd,bkhd->bhqk", q, k)
    scores[1, :, :, 5:] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)


def convolution_reference() -> np.ndarray:
    x, weight, bias = numbers(0.0, 3, 4, 6, 5), numbers(1.0, 18, 3, 3, 3, 5), numbers(2.0, 18)
    padded = np.pad(x, ((2, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3), axis=(0, 1, 2))
    return np.einsum("trwcabd,nabdc->trwn", windows, weight) + bias


def e4m3_value(code: int) -> float:
    """Four bits of exponent with a bias of 7, three of fraction."""
    sign, exponent, fraction = -1 if code & 128 else 1, code >> 3 & 15, code & 7
    return sign * (2.0**-9 * fraction if exponent == 0 else 2.0 ** (exponent - 7) * (1 + fraction / 8))


def fp8_linear_reference() -> np.ndarray:
    codes = [29 * i % 127 + 128 * (i % 3 == 0) for i in range(37 * 50)]
    weight = np.array([e4m3_value(code) for code in codes]).reshape(37, 50)
    weight *= 0.001 * (1 + np.arange(37) % 5)[:, None]
    y = numbers(0.0, 7, 50) @ weight.T + numbers(1.0, 37)
    gelu = y / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    return numbers(2.0, 7, 37) + gelu


def abi() -> list[str]:
    """Everything of the headers on which compiled programs rely, a line each, without its comments."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", "".join(path.read_text() for path in HEADERS), flags=re.DOTALL)
    text = " ".join(text.split())
    structures = re.findall(r"typedef struct \w+ \{.*?\} \w+;", text)
    functions = [" ".join(line.split()) for line in re.findall(r"HUNYUAN_API ([\w* ]*?hunyuan_\w+\([^)]*\);)", text)]
    constants = [f"{name} = {value}" for name, value in re.findall(r"\b(HUNYUAN_\w+) = (\d+)", text)]
    return sorted({*structures, *functions, *constants})


def check_examples(prefix: Path, tmp_path: Path) -> None:
    """The programs of examples/c against NumPy in float64."""
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_C_FLAGS={STRICT}", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    run(tool("cmake"), "-G", "Ninja", "-S", EXAMPLES, "-B", tmp_path, *options)
    run(tool("cmake"), "--build", tmp_path)
    wanted = {
        "attention": attention_reference(),
        "convolution": convolution_reference(),
        "fp8_linear": fp8_linear_reference(),
    }
    assert set(wanted) == {path.stem for path in EXAMPLES.glob("*.c")}
    for name, reference in wanted.items():
        result = np.array(run(tmp_path / name).split(), dtype=np.float64).reshape(reference.shape)
        error = np.abs(result - reference).max() / np.abs(reference).max()
        assert error < 1e-5, (name, error)
    if (
        tmp_path / "cuda_stream"
    ).exists():  # built where there is a CUDA toolkit, against a library without its kernels
        done = subprocess.run([tmp_path / "cuda_stream"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, "needs a GPU and a library built with HUNYUAN_CUDA=ON\n")


def test_programs_in_c_against_the_installed_library(tmp_path):
    tool("cc", "gcc")
    prefix = tmp_path / "prefix"
    install(prefix)
    assert exported(prefix) == declared()
    attended, normed = reference()
    for name, (program, variables) in programs(prefix, tmp_path).items():
        rows = torch.tensor([[float(x) for x in line.split()] for line in run(program, **variables).splitlines()])
        torch.testing.assert_close(rows[:, 0].double(), attended.flatten(), rtol=1e-5, atol=1e-5, msg=name)
        torch.testing.assert_close(rows[:, 1].double(), normed.flatten(), rtol=1e-4, atol=1e-4, msg=name)
    check_examples(prefix, tmp_path / "examples")


def test_a_changed_abi_has_another_version():
    """abi.txt is what version N of the ABI promised: a line of it that changes or goes needs version N + 1."""
    first, *recorded = ABI.read_text().splitlines()
    version = re.search(r"define HUNYUAN_ABI_VERSION (\d+)", "".join(path.read_text() for path in HEADERS))[1]
    gone = set(recorded) - set(abi())
    assert first == f"version {version}" and not gone, (
        f"{sorted(gone)} changed: raise HUNYUAN_ABI_VERSION in hunyuan/types.h and write tests/cpp/abi.txt anew "
        "(python tests/cpp/test_library.py)"
    )


if __name__ == "__main__":
    version = re.search(r"define HUNYUAN_ABI_VERSION (\d+)", "".join(path.read_text() for path in HEADERS))[1]
    ABI.write_text("\n".join([f"version {version}", *abi()]) + "\n")
