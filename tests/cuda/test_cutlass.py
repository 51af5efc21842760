"""CUTLASS in the build: looked for only where a kernel uses it, and the answer says why it is off."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# cutlass.cmake as a script: commands that need a project print what they are called with.
COMMANDS = ("hunyuan_cuda_objects", "target_include_directories", "add_compile_definitions")
SCRIPT = """
function(hunyuan_glob variable folders pattern)
  set(${{variable}} "{kernels}" PARENT_SCOPE)
endfunction()
{printed}
set(families norm)
set(CUTLASS_DIR "{folder}")
include("{module}")
message(STATUS "cutlass: ${{cutlass}}")
"""


def configured(tmp_path: Path, kernels: str, folder: Path) -> str:
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    cmake = shutil.which("cmake", path=search)
    if cmake is None:
        pytest.skip("needs cmake")
    script = tmp_path / "script.cmake"
    module = ROOT / "csrc" / "cmake" / "cutlass.cmake"
    printed = "\n".join(f'function({name})\n message(STATUS "{name} ${{ARGN}}")\nendfunction()' for name in COMMANDS)
    script.write_text(SCRIPT.format(kernels=kernels, folder=folder, module=module, printed=printed))
    return subprocess.run([cmake, "-P", str(script)], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def headers(tmp_path):
    version = tmp_path / "cutlass" / "include" / "cutlass" / "version.h"
    version.parent.mkdir(parents=True)
    parts = (("MAJOR", 4), ("MINOR", 2), ("PATCH", 1))
    version.write_text("".join(f"#define CUTLASS_{name} {number}\n" for name, number in parts))
    return tmp_path / "cutlass"


def test_off_where_no_kernel_uses_it(tmp_path, headers):
    assert configured(tmp_path, "", headers) == "-- cutlass: off, no kernel uses it\n"


def test_kernels_that_use_it_are_compiled_with_its_headers(tmp_path, headers):
    lines = configured(tmp_path, "a_cutlass.cu", headers).splitlines()
    assert lines[0].startswith("-- hunyuan_cuda_objects") and lines[0].endswith("a_cutlass.cu")
    assert f"{headers}/include" in lines[1]
    assert lines[2:] == ["-- add_compile_definitions HUNYUAN_WITH_CUTLASS", "-- cutlass: 4.2.1"]


def test_off_where_the_headers_are_not_found(tmp_path):
    output = configured(tmp_path, "a_cutlass.cu", tmp_path / "absent")
    assert output.startswith("-- cutlass: off, not found") and output.count("\n") == 1
