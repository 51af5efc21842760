"""The machine code of every kernel: the instructions it was written for, no local memory, registers that fit."""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

import pytest
from sass import Kernel, compiled, read_log, read_sass

HOPPER = ("UTMALDG", "SYNCS", "USETMAXREG")  # bulk copies, mbarriers, registers moved to the consumers
AMPERE = ("LDSM", "LDGSTS")  # ldmatrix, cp.async


class Machine(NamedTuple):
    """Requirements on the machine code of every kernel of a source."""

    source: str
    arch: str
    opcodes: tuple[str, ...]  # each must occur
    most_registers: int


FP8_PRODUCTS = ["linear/sm90/general_linear_fp8.cu", "linear/sm90/straight_linear_fp8.cu"]

# 168: three warpgroups share the register file at entry (65,536 / 384), setmaxnreg moves registers from there.
# 128: two blocks of 256 threads a multiprocessor. 255: what a thread can have.
KERNELS = [
    Machine("attention/sm90/attention.cu", "sm_90a", ("HGMMA", "MUFU", *HOPPER), 168),
    Machine("attention/sm90/fp8_attention.cu", "sm_90a", ("QGMMA", "MUFU", *HOPPER), 168),
    Machine("attention/sm90/fp8_norm_rope.cu", "sm_90a", ("MUFU",), 128),
    Machine("attention/sm90/fp8_values.cu", "sm_90a", (), 128),
    Machine("attention/sm80/attention.cu", "sm_80", ("HMMA", "MUFU", *AMPERE), 255),
    Machine("attention/sm80/attention.cu", "sm_89", ("HMMA", "MUFU", *AMPERE), 255),
    Machine("attention/cuda/qk_norm_rope.cu", "sm_90a", ("MUFU",), 128),
    Machine("conv3d/sm90/causal_conv3d.cu", "sm_90a", ("HGMMA", *HOPPER), 168),
    Machine("conv3d/cuda/causal_conv3d.cu", "sm_80", ("HMMA", *AMPERE), 255),
    Machine("conv3d/cuda/pad_causal.cu", "sm_90a", (), 128),
    *(Machine(source, "sm_90a", ("QGMMA", *HOPPER), 168) for source in FP8_PRODUCTS),
    Machine("linear/sm89/linear_fp8.cu", "sm_89", ("QMMA", *AMPERE), 255),
    Machine("linear/cuda/few_rows.cu", "sm_90a", ("HMMA",), 255),
    Machine("linear/cuda/few_rows.cu", "sm_89", ("HMMA",), 255),
    Machine("linear/cuda/quantize_rows.cu", "sm_90a", (), 128),
    Machine("norm/cuda/gate_residual.cu", "sm_90a", (), 128),
    Machine("norm/cuda/group_norm_silu.cu", "sm_90a", (), 128),
    Machine("norm/cuda/layer_norm_modulate.cu", "sm_90a", (), 128),
]
# Kernels bound by memory: accesses of 16 bytes, as "load" or "load and store", for their aligned variants.
WIDE = {
    "attention/cuda/qk_norm_rope.cu": ("norm_rope_kernel", ("LDG", "STG")),
    "attention/sm90/fp8_norm_rope.cu": ("(sum_keys|norm_rope_quantize)_kernel", ("LDG",)),
    "attention/sm90/fp8_values.cu": ("quantize_values_kernel", ("LDG",)),
    "conv3d/cuda/pad_causal.cu": ("pad_kernelI5uint4", ("LDG", "STG")),
    "linear/cuda/few_rows.cu": ("few_rows_kernel", ("LDG",)),
    "linear/cuda/quantize_rows.cu": ("quantize_rows_kernel", ("LDG",)),
    "norm/cuda/gate_residual.cu": ("gate_kernelI.*Li[48]E", ("LDG", "STG")),
    "norm/cuda/group_norm_silu.cu": ("apply_kernel", ("LDG", "STG")),
    "norm/cuda/layer_norm_modulate.cu": ("modulate_kernelI.*Li[48]ELb0E", ("LDG", "STG")),
}


@pytest.mark.parametrize("machine", KERNELS, ids=lambda machine: f"{machine.source}-{machine.arch}")
def test_instructions_registers_and_spills(machine):
    kernels, log = compiled(machine.source, machine.arch)
    assert kernels, log
    for name, kernel in kernels.items():
        missing = [opcode for opcode in machine.opcodes if not kernel.opcodes[opcode]]
        assert not missing, f"{name} has no {missing}"
        assert kernel.spilled_bytes == kernel.stack_bytes == 0, f"{name} spills {kernel.spilled_bytes} bytes"
        assert kernel.opcodes["LDL"] == kernel.opcodes["STL"] == 0, f"{name} uses local memory"
        assert kernel.registers <= machine.most_registers, f"{name} takes {kernel.registers} registers"
    assert "serialized" not in log, f"wgmma instructions wait for each other:\n{log}"
    assert "setmaxnreg" not in log, f"the reallocation of registers is ignored:\n{log}"


@pytest.mark.parametrize("source", WIDE)
def test_wide_accesses(source):
    """Kernels bound by memory move 16 bytes an instruction where the data is aligned."""
    pattern, operations = WIDE[source]
    arch = next(machine.arch for machine in KERNELS if machine.source == source)
    kernels = {name: kernel for name, kernel in compiled(source, arch)[0].items() if re.search(pattern, name)}
    assert kernels, f"no kernel of {source} is named {pattern}"
    for name, kernel in kernels.items():
        for operation in operations:
            wide = rf"{operation}\.E\S*\.128"
            assert any(re.match(wide, line) for line in kernel.text), f"{name}: narrow {operation}"


def products_between_waits(kernel: Kernel) -> list[tuple[int, str]]:
    """(wgmmas issued since the last wait, what the wait leaves running) for every wait of a kernel, in order."""
    issued, waits = 0, []
    for product, lines in groupby(kernel.text, key=lambda line: line.startswith(("HGMMA", "QGMMA"))):
        lines = list(lines)
        if product:
            issued += len(lines)
            continue
        for line in lines:
            if line.startswith("WARPGROUP.DEPBAR"):
                waits.append((issued, line.split()[-1]))
                issued = 0
    return waits


@pytest.mark.parametrize("source", ["attention/sm90/attention.cu", "attention/sm90/fp8_attention.cu"])
def test_hopper_attention_overlaps_its_two_products(source):
    """The loop issues S = Q K^T and O += P V, then waits for the first alone: the softmax runs under the second."""
    for name, kernel in compiled(source, "sm_90a")[0].items():
        (scores, first), (both, partial), *rest = products_between_waits(kernel)
        assert (first, partial) == ("0x0", "0x1"), f"{name}: {first}, {partial}"
        assert both > scores > 0 and rest == [(0, "0x0"), (both - scores, "0x0")], f"{name}: {scores}, {both}, {rest}"


@pytest.mark.parametrize("source", ["conv3d/sm90/causal_conv3d.cu", *FP8_PRODUCTS])
def test_hopper_products_leave_one_step_running(source):
    """A step is issued before the one before it is waited for; two-level sums wait for each half of a step."""
    for name, kernel in compiled(source, "sm_90a")[0].items():
        promoted = re.search("LinearILb1E", name)
        wanted = [(4, "0x0"), (4, "0x0")] if promoted else [(8, "0x1"), (0, "0x0")]
        assert products_between_waits(kernel) == wanted, name


def test_promoted_products_do_not_wait_for_their_scales():
    """The scales of a step are multiplied before its first product is issued."""
    promoted = {
        name: kernel for name, kernel in compiled(FP8_PRODUCTS[1], "sm_90a")[0].items() if "LinearILb1E" in name
    }
    assert promoted
    for name, kernel in promoted.items():
        first = next(i for i, line in enumerate(kernel.text) if line.startswith("QGMMA"))
        wait = next(i for i, line in enumerate(kernel.text) if line.startswith("WARPGROUP.DEPBAR"))
        assert not [line for line in kernel.text[first:wait] if line.startswith("FMUL")], name


def test_straight_epilogue():
    """Stores of 16 bytes; what belongs to rows and columns is on its way before the last products are waited for."""
    for name, kernel in compiled(FP8_PRODUCTS[1], "sm_90a")[0].items():
        last = max(i for i, line in enumerate(kernel.text) if line.startswith("WARPGROUP.DEPBAR"))
        after = kernel.text[last:]
        branches = [line for line in after if line.split()[0] in ("BRA", "BSSY")]
        assert len(branches) < 100, f"{name}: {len(branches)} branches"  # 453 in the general product
        loads, stores = ([line for line in after if line.startswith(access)] for access in ("LDG", "STG"))
        assert len(loads) == (16 if "EndE2" in name else 0), f"{name}: {loads}"  # the residual
        narrow = [line for line in stores if ".128" not in line and ".64" not in line]
        assert len(stores) >= 16 and len(narrow) <= 4, f"{name}: {narrow}"  # narrow: scales of codes


def test_logs_and_listings_are_read():
    log = """ptxas info    : Compiling entry function '_Z1kv' for 'sm_90a'
ptxas info    : Function properties for _Z1kv
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers"""
    kernels = read_log(log)
    read_sass(
        """\t\tFunction : _Z1kv
        /*0000*/                   LDC R1, c[0x0][0x28] ;      /* 0x00000a00ff017b82 */
                                                               /* 0x000e240000000800 */
        /*0010*/              @!P0 HGMMA.64x64x16.F32.BF16 R24, gdesc[UR12], RZ, !UPT ;
        /*0020*/                   WARPGROUP.DEPBAR.LE gsb0, 0x1 ;""",
        kernels,
    )
    kernel = kernels["_Z1kv"]
    assert (kernel.registers, kernel.stack_bytes, kernel.spilled_bytes) == (168, 8, 16)
    assert kernel.opcodes == {"LDC": 1, "HGMMA": 1, "WARPGROUP": 1} and kernel.text[1].startswith("HGMMA.64x64x16")
    assert products_between_waits(kernel) == [(1, "0x1")]
