"""The race of candidates (benchmarks/gpu/candidates), as far as it goes without a GPU."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.candidates import build
from benchmarks.gpu.candidates.contenders import LinearArgs

ROOT = Path(__file__).resolve().parents[2]


def test_arguments_are_those_of_the_header():
    text = (ROOT / "csrc/include/hunyuan/linear.h").read_text()
    body = re.search(r"typedef struct hunyuan_linear_fp8_args \{(.*?)\} hunyuan_linear_fp8_args;", text, re.S).group(1)
    declarations = re.findall(r"([\w ]+?[ *]+)(\w+);", re.sub(r"/\*.*?\*/", "", body, flags=re.S))
    wide = {"int64_t": ctypes.c_int64, "int": ctypes.c_int}
    wanted = [(name, ctypes.c_void_p if "*" in kind else wide[kind.strip()]) for kind, name in declarations]
    assert list(LinearArgs._fields_) == wanted


def test_names_of_candidates_differ():
    names = [unit.name for unit in build.UNITS]
    assert len(set(names)) == len(names)
    assert {unit.name for unit in build.UNITS if not unit.cutlass} == {"own", "own_promoted"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="would race")
def test_says_that_there_is_no_gpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu.candidates", str(tmp_path), str(tmp_path / "result.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip() == "There is no CUDA device."
    assert not (tmp_path / "result.json").exists()
