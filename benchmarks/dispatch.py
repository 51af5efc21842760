"""Cost of a call of this package beside its kernel, in this checkout and in another one.

    python benchmarks/dispatch.py OTHER_CHECKOUT [--rounds N] [--output FOLDER]

Each checkout runs in a process of its own, with its own `.venv/bin/python` and build, on one CPU thread; the two take
turns, round by round. Times are those of the processor, which others on the machine disturb less than the clock. "As on
CUDA": tensors of the CPU go the way of CUDA tensors, to kernels that do nothing. Writes
MACHINE-dispatch.json, .csv and .md into FOLDER, by default benchmarks/results, and prints the table: medians, smallest
times, how many times less time this checkout takes, and the Python frames of hunyuan_ext that a call enters.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:1] = []  # benchmarks/ itself, with modules named as others are
if "--work" not in sys.argv:  # a worker knows its own checkout alone
    sys.path[:0] = [str(ROOT)]
    from benchmarks import machine, results
    from benchmarks.results import OURS, Row, raced
    from benchmarks.timing import Times

OTHER = "other checkout"
ROUNDS = 30
BURST = 5e-3  # seconds of calls in a round
Case = Callable[[], Any]


def as_on_cuda(case: Case) -> Case:
    """The case with CPU tensors in place of CUDA ones and kernels that do nothing, from this call on."""
    kernels = "qk_norm_rope attention quantize_rows linear_fp8 quantized_linear_fp8 linear_few_rows".split()
    stubs = SimpleNamespace(**{name: lambda *_: None for name in kernels})
    try:
        from hunyuan_ext.core import native, plain
    except ImportError:
        return _before_plans(case, stubs)
    native.module = stubs
    native.cuda_archs = lambda: ("sm_90a",)
    native.cuda_capability = lambda index: (9, 0)
    plain.device_type = lambda x: "cuda"
    native.forget()
    return case


def _before_plans(case: Case, stubs: SimpleNamespace) -> Case:
    """The same in checkouts that decide anew in every call, whose modules have other names."""
    from hunyuan_ext import _backend, _cuda, _direct, _native, fp8

    _native._C = _cuda._C = stubs
    _backend._picks_native = lambda op, kind, dtype, index: dtype in _backend.KERNELS[op].get("cuda", ())
    _direct.is_plain = lambda *tensors: False
    fp8.unit = lambda *arguments: None
    return case


def attention_of_a_block(dtype: torch.dtype, heads: int, dim: int) -> Case:
    import hunyuan_ext as ops

    q, k, v = torch.randn(1, 24, 3, heads, dim).to(dtype).unbind(2)
    norm, table = torch.rand(dim).to(dtype), torch.rand(20, dim)
    options = dict(rope=(table, table), q_norm=norm, k_norm=norm, text_norms=(norm, norm), text_len=4)
    return lambda: ops.rope_attention(q, k, v, **options)


def fp8_linear() -> Case:
    import hunyuan_ext as ops

    x, (w8, scale) = torch.randn(1, 24, 256).bfloat16(), ops.quantize_fp8(torch.randn(512, 256))
    bias, gate, residual = (torch.randn(shape).bfloat16() for shape in (512, (1, 512), (1, 24, 512)))
    return lambda: ops.fp8_linear(x, w8, scale, bias, activation="gelu_tanh", gate=gate, residual=residual)


def layer_norm() -> Case:
    import hunyuan_ext as ops

    x, shift, scale = torch.randn(1, 4, 64), torch.randn(1, 64), torch.randn(1, 64)
    return lambda: ops.layer_norm_modulate(x, shift, scale)


def gated_linear() -> Case:
    import hunyuan_ext as ops

    x, weight, bias, gate = (torch.randn(shape) for shape in ((1, 4, 64), (64, 64), 64, (1, 64)))
    return lambda: ops.linear(x, weight, bias, gate=gate, residual=x)


def bundled_forward(video: tuple[int, int, int]) -> Case:
    """The bundled model on latents with so many frames, rows and columns."""
    from hunyuan_video import HunyuanVideoPipeline

    model = HunyuanVideoPipeline.from_pretrained("tiny").transformer
    config = model.config
    latents, text = torch.randn(1, config.in_channels, *video), torch.randn(1, 20, config.text_dim)
    pooled, mask, timestep = torch.randn(1, config.pooled_text_dim), torch.ones(1, 20).long(), torch.ones(1)
    return lambda: model(latents, timestep, text=text, text_mask=mask, pooled_text=pooled)


def small_forward(dtype: torch.dtype) -> Case:
    """A deep transformer whose tensors are as small as they can be, as in system.py: the cost of calls."""
    from hunyuan_video.models import HunyuanVideoTransformer, TransformerConfig

    config = TransformerConfig(
        hidden_size=32, num_heads=1, double_blocks=4, single_blocks=8, text_dim=8, pooled_text_dim=8,
        rope_dims=(8, 12, 12),
    )  # fmt: skip
    model = HunyuanVideoTransformer(config).to(dtype).eval()
    latents, text, pooled = (torch.randn(shape).to(dtype) for shape in ((1, 16, 1, 2, 2), (1, 2, 8), (1, 8)))
    conditions = dict(text=text, text_mask=torch.ones(1, 2).long(), pooled_text=pooled, guidance=torch.ones(1))
    return lambda: model(latents, torch.ones(1), **conditions)


# (operation, shape, dtype) -> how its case is made
CASES: dict[tuple[str, str, str], Callable[[], Case]] = {
    ("layer_norm_modulate", "4x64", "float32"): layer_norm,
    ("linear with gate and residual", "4x64x64", "float32"): gated_linear,
    ("rope_attention", "24 tokens, 2 heads of 32", "float32"): lambda: attention_of_a_block(torch.float32, 2, 32),
    ("transformer forward", "3 tokens", "float32"): lambda: small_forward(torch.float32),
    ("transformer forward", "3 tokens", "bfloat16"): lambda: small_forward(torch.bfloat16),
    ("bundled transformer forward", "576 tokens", "float32"): lambda: bundled_forward((9, 16, 16)),
    ("bundled transformer forward", "3 tokens", "float32"): lambda: bundled_forward((3, 2, 2)),
    # The last: they change the package for good.
    ("rope_attention as on CUDA", "24 tokens, 2 heads of 128", "bfloat16"): lambda: as_on_cuda(
        attention_of_a_block(torch.bfloat16, 2, 128)
    ),
    ("fp8_linear as on CUDA", "24x256x512", "bfloat16"): lambda: as_on_cuda(fp8_linear()),
}


def frames_of(case: Case) -> int:
    """Python frames of hunyuan_ext that a call enters."""
    import hunyuan_ext

    package, count = os.path.dirname(hunyuan_ext.__file__), 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(package)

    sys.setprofile(profile)
    try:
        case()
    finally:
        sys.setprofile(None)
    return count


def seconds_of(case: Case, calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        case()
    return (time.process_time() - started) / calls


@torch.inference_mode()
def work() -> None:
    """Answers the cases on standard input with seconds a call, a first time with the frames of a call."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ready: dict[tuple, tuple[Case, int]] = {}
    for line in sys.stdin:
        key = tuple(json.loads(line))
        if key in ready:
            print(json.dumps(seconds_of(*ready[key])), flush=True)
            continue
        case = CASES[key]()
        case()
        ready[key] = case, max(1, int(BURST / seconds_of(case, 3)))
        print(json.dumps(frames_of(case)), flush=True)


class Worker:
    """The process of a checkout."""

    def __init__(self, root: Path):
        python = root / ".venv" / "bin" / "python"
        if not python.exists():
            raise SystemExit(f"{root} has no .venv/bin/python; run `make install` there")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HUNYUAN_EXT_"))}
        self.process = subprocess.Popen(
            [str(python), __file__, "--work"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
            env=variables | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ask(self, key: tuple[str, str, str]) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(key), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{', '.join(key)}: the process of {self.process.args[0]} ended")  # type: ignore[index]
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(this: Worker, other: Worker, key: tuple[str, str, str], rounds: int) -> Row:
    """Both checkouts at one case, in turn."""
    frames = this.ask(key), other.ask(key)
    taken: dict[str, list[float]] = {OURS: [], OTHER: []}
    for number in range(rounds):
        for name, worker in ((OURS, this), (OTHER, other)) if number % 2 else ((OTHER, other), (OURS, this)):
            taken[name].append(worker.ask(key))
    row = raced(*key, {name: Times.of(seconds) for name, seconds in taken.items()}, {})
    row.note = f"Python frames: {frames[1]} before, {frames[0]} now"
    return row


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| case | shape | dtype | other checkout, us | this, us | ratio | of the smallest | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        other = row.peers[OTHER]
        times = " | ".join(f"{1e3 * timed.ms:.1f} ({1e3 * timed.ms_min:.1f})" for timed in (other, row))
        ratios = f"{other.ms / row.ms:.2f} | {other.ms_min / row.ms_min:.2f}"
        lines.append(f"| {row.op} | {row.shape} | {row.dtype} | {times} | {ratios} | {row.note} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT", nargs="?", help="with its own .venv, built")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=Path, help="folder of the results")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.work:
        return work()
    if args.other is None:
        parser.error("OTHER_CHECKOUT is needed")
    this, other = Worker(ROOT), Worker(args.other.resolve())
    rows = [measure(this, other, key, args.rounds) for key in CASES]
    this.close()
    other.close()
    about = machine.part_facts() | {"load": machine.load()}
    text = (
        f"# Cost of calls\n\n{machine.cpu_name()}, 1 thread; {about['date']}, commit {about['commit']}, load "
        f"{about['load']}. CPU time; medians of {args.rounds} rounds and, in brackets, the smallest.\n\n{table(rows)}\n"
    )
    print(text)
    path = (args.output or results.RESULTS) / f"{machine.slug()}-dispatch.json"
    content = {"format": results.FORMAT, "machine": machine.machine_facts(), "parts": {}}
    content["parts"]["dispatch"] = results.as_part(rows, **about)
    results.save_results(path, content)
    results.write(path.with_suffix(".md"), text)


if __name__ == "__main__":
    main()
