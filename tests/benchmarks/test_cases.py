"""Every contender of the kernel suite computes the operation it is measured for."""

from __future__ import annotations

import importlib.util

import pytest
import torch

if importlib.util.find_spec("benchmarks.cases") is None:
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)

from benchmarks.cases import CASES, cases, make_inputs, max_errors
from benchmarks.contenders import OURS, contenders

QUICK = list(cases("cpu", quick=True))
TOLERANCE = {"bfloat16": 7e-2, "float32": 2e-5}  # of values of size 1 to 4


@pytest.mark.parametrize(("case", "dtype"), QUICK, ids=[f"{case.op}-{dtype}" for case, dtype in QUICK])
def test_contenders_agree_with_float64(case, dtype):
    inputs = make_inputs(case, dtype)
    for contender in contenders(case.op, floor=True):
        if not contender.installed:
            continue
        with torch.no_grad():
            run = contender.prepare(inputs)
            error = max_errors(case, inputs, {contender.name: run()})[contender.name]
            assert torch.equal(run(), run()), f"{contender.name} changes its inputs"
        if "less work" in contender.name:
            assert error > TOLERANCE[dtype], f"{contender.name} says that it computes something else"
        else:
            assert error < TOLERANCE[dtype] * (2 if case.op in ("fp8_linear", "int8_linear") else 1), contender.name


def test_inputs_depend_on_the_seed_alone():
    case, dtype = QUICK[0]
    same, other = make_inputs(case, dtype)["q"], make_inputs(case, dtype, seed=1)["q"]
    assert torch.equal(make_inputs(case, dtype)["q"], same) and not torch.equal(same, other)


def test_every_operation_has_a_quick_case_and_a_peer():
    for op in {case.op for case in CASES} - {"upsample_conv3d"}:  # folded only where it is large enough to pay
        assert any(case.op == op and case.quick for case in CASES), op
        names = [contender.name for contender in contenders(op)]
        assert names[0] == OURS and len(names) > 1, op
