"""The doctor's report: complete, and honest about what is missing."""

from __future__ import annotations

import copy
import json

import pytest

import hunyuan_ext
from hunyuan_video.cli import doctor


@pytest.fixture(scope="module")
def report():
    return doctor.collect()


def test_report_names_every_operation_with_a_reason(command):
    result = command("doctor")
    assert result.code == 0 and result.err == ""
    for title in ("Machine", "Build", "Files", "Operations", "Training on the processor in bfloat16"):
        assert f"\n{title}\n" in result.out
    lines = result.out.splitlines()
    for op in hunyuan_ext.capabilities()["ops"]:
        after = lines[lines.index(f"  {op}") + 1]
        assert after.startswith("    cpu, float32") and "(" in after


def test_json_holds_the_same_facts(command, report):
    printed = json.loads(command("doctor", "--json").out)
    assert printed["kernels"]["ops"] == report["kernels"]["ops"] and printed["version"] == report["version"]


def test_what_is_missing_comes_with_advice(report):
    bare = copy.deepcopy(report)
    why = "hunyuan_ext._C is not built; `pip install .` builds it"
    bare["kernels"]["build"] = {"native": False, "reason": why}
    bare["kernels"]["ops"] = {"op": {"cpu": {"float32": {"implementation": "torch", "reason": f"torch's conv; {why}"}}}}
    bare["checkpoint"]["present"], bare["video"]["h264"], bare["gpus"], bare["cuda_build"] = False, False, [], None
    text = "\n".join(doctor.in_words(bare))
    assert "PyTorch does everything; hunyuan_ext._C is not built; `pip install .` builds it" in text
    assert "cpu, float32: PyTorch (torch's conv; no own kernels, see Build)" in text
    assert "tiny: missing; install the package again" in text
    assert "no H.264 encoder; pip install av" in text
    assert "GPU: none (this torch was built without CUDA); models run on the processor in float32" in text


def test_a_gpu_and_a_forced_backend_are_told(report):
    rich = copy.deepcopy(report)
    rich["gpus"] = [{"name": "Big One", "memory": 80e9, "capability": "sm_90"}]
    rich["kernels"]["backend"] = "reference"
    rich["kernels"]["build"] = {"native": True, "isa": ["scalar", "avx2"], "cuda_archs": ["sm_80", "sm_90a"]}
    text = "\n".join(doctor.in_words(rich))
    assert "GPU 0: Big One, 80 GB, sm_90; models run here in bfloat16" in text and "GPU: none" not in text
    assert "own kernels for processors: scalar, avx2;" in text and "own kernels for GPUs: sm_80, sm_90a" in text
    assert "HUNYUAN_EXT_BACKEND=reference overrides" in text


def test_kernels_for_gpus_are_listed_with_their_architectures():
    kernels = {
        "attention": {"dtypes": ["bfloat16"], "archs": {"sm_80": "mma.sync", "sm_89": "mma.sync"}, "gpus": [1]},
        "linear_fp8": {"dtypes": ["bfloat16"], "archs": {}, "gpus": []},
    }
    attention = "  attention, bfloat16: sm_80, sm_89 (mma.sync)"
    assert doctor.cuda_kernel_lines(kernels, []) == [
        attention,
        "  linear_fp8, bfloat16: not built",
        "  none of them runs here: torch finds no usable GPU",
    ]
    assert doctor.cuda_kernel_lines(kernels, [{}, {}]) == [
        f"{attention}; runs on GPU 1",
        "  linear_fp8, bfloat16: not built; runs on no GPU of this machine, PyTorch does its work",
    ]


def test_formats_with_the_same_answer_share_a_line():
    same, other = {"implementation": "torch", "reason": "why"}, {"implementation": "native", "reason": "fast"}
    ops = {"op": {"cpu": {"float32": same, "bfloat16": same}, "cuda": {"float32": same, "bfloat16": other}}}
    assert doctor.operation_lines({"build": {"native": True}, "ops": ops}) == [
        "  op",
        "    cpu, float32 and bfloat16: PyTorch (why)",
        "    cuda, float32: PyTorch (why)",
        "    cuda, bfloat16: own kernel (fast)",
    ]
