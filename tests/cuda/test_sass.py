"""The machine code of the attention kernels: tensor core instructions where they must be, nothing in local memory."""

from __future__ import annotations

import pytest
from sass import Kernel, compiled, read_log, read_sass

ATTENTION = [
    ("attention/sm90/attention.cu", "sm_90a"),
    ("attention/sm90/fp8_attention.cu", "sm_90a"),
    ("attention/sm80/attention.cu", "sm_80"),
    ("attention/sm80/attention.cu", "sm_89"),
]
MAIN_LOOP = {  # instructions that a kernel of the source must have
    "attention/sm90/attention.cu": ("HGMMA", "UTMALDG", "USETMAXREG", "SYNCS", "MUFU"),
    "attention/sm90/fp8_attention.cu": ("QGMMA", "UTMALDG", "USETMAXREG", "SYNCS", "MUFU"),
    "attention/sm80/attention.cu": ("HMMA", "LDSM", "LDGSTS", "MUFU"),
}


@pytest.mark.parametrize(("source", "arch"), ATTENTION)
def test_attention(source, arch):
    kernels, log = compiled(source, arch)
    assert kernels, log
    for name, kernel in kernels.items():
        for opcode in MAIN_LOOP[source]:
            assert kernel.opcodes[opcode], f"{name} has no {opcode}"
        assert kernel.spilled_bytes == kernel.stack_bytes == 0, f"{name} spills {kernel.spilled_bytes} bytes"
        assert kernel.opcodes["LDL"] == kernel.opcodes["STL"] == 0, f"{name} uses local memory"
        # three warpgroups share the register file at entry: 65,536 / 384; setmaxnreg moves them from there
        assert kernel.registers <= (168 if arch == "sm_90a" else 255), f"{name} takes {kernel.registers} registers"
    assert "serialized" not in log, f"wgmma instructions wait for each other:\n{log}"
    assert "setmaxnreg" not in log, f"register reallocation is ignored:\n{log}"


def test_hopper_attention_overlaps_the_two_products():
    """In the main loop S = Q K^T and O += P V are both issued before anything waits for the first of them."""
    kernels, _ = compiled("attention/sm90/attention.cu", "sm_90a")
    for name, kernel in kernels.items():
        pattern = [line.split()[0] for line in kernel.text if line.startswith(("HGMMA", "WARPGROUP.DEPBAR"))]
        runs = [(0, 0)]  # products of the two kinds between waits
        for opcode in pattern:
            scores, out = runs[-1]
            if not opcode.startswith("HGMMA"):
                runs.append((0, 0))
            elif opcode.split(".")[1] in ("64x176x16", "64x128x16") and not _transposed(kernel, opcode):
                runs[-1] = (scores + 1, out)
            else:
                runs[-1] = (scores, out + 1)
        assert any(total >= 2 for total in map(sum, runs)), name
        partial = [line for line in kernel.text if line.startswith("WARPGROUP.DEPBAR") and "gsb0, 0x1" in line]
        assert partial, f"{name} never waits for the first product alone"


def _transposed(kernel: Kernel, opcode: str) -> bool:
    return any(line.startswith(opcode) and "tnspB" in line for line in kernel.text)


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
        /*0010*/              @!P0 HGMMA.64x64x16.F32.BF16 R24, gdesc[UR12], RZ, !UPT ;""",
        kernels,
    )
    kernel = kernels["_Z1kv"]
    assert (kernel.registers, kernel.stack_bytes, kernel.spilled_bytes) == (168, 8, 16)
    assert kernel.opcodes == {"LDC": 1, "HGMMA": 1} and kernel.text[1].startswith("HGMMA.64x64x16")
