"""Breakdown of the time of a forward and of a decode, and the least time that the machine would need.

    python -m benchmarks.cpu.floors [--quick] [--output FOLDER]

Measures the rates of this machine in the same process (a copy of half a gigabyte; torch's products of large matrices),
then adds up the time inside each operation while a model runs. An operation's floor is the larger of its arithmetic at
the rate of the products and its inputs and outputs, each once, at the rate of the copy. A ratio below 1 means that data
was still in a cache, or that a kernel computes float32 in another way than torch's product does.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hunyuan_ext
from benchmarks.machine import Ceilings
from hunyuan_ext.conv import slabs

Work = tuple[float, float]  # floating point operations, bytes
REPEATS = 5


@dataclass
class Spent:
    """Time, calls and work of one operation."""

    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0


@dataclass
class Recorder:
    """Adds up the outermost operations; one that another one calls belongs to that."""

    spent: dict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    inside: bool = False
    counts: bool = True  # calls and their work; times are taken without, as counting takes time

    def wrap(self, name: str, function: Callable, work: Callable[..., Work]) -> Callable:
        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            if self.inside:
                return function(*args, **kwargs)
            self.inside, started = True, time.perf_counter()
            try:
                out = function(*args, **kwargs)
            finally:
                self.inside, seconds = False, time.perf_counter() - started
            spent = self.spent[name]
            spent.seconds += seconds
            if self.counts:
                flops, moved = work(out, *args, **kwargs)
                spent.calls, spent.flops, spent.bytes = spent.calls + 1, spent.flops + flops, spent.bytes + moved
            return out

        return recorded


def _tensors(*values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(*value)


def _moved(made: Any, /, *args: Any, **kwargs: Any) -> float:
    """Bytes of all tensors, each counted once, as where the output is also an input."""
    memory = {(tensor.data_ptr(), tensor.nbytes) for tensor in _tensors(made, *args, *kwargs.values())}
    return float(sum(size for _, size in memory))


def _pass(made: Any, /, *args: Any, **kwargs: Any) -> Work:
    return 0.0, _moved(made, *args, **kwargs)


def _product(made: Tensor, /, x: Any, weight: Tensor, *args: Any, **kwargs: Any) -> Work:
    return 2.0 * made.numel() * weight.shape[1], _moved(made, x, weight, *args, **kwargs)


def _attention(made: Tensor, /, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Work:
    length = kwargs.get("kv_len")
    keys = k.shape[1] if length is None else float(length.float().mean())
    return 4.0 * made.numel() * keys, _moved(made, q, k, v)


def _convolution(made: Tensor | None, /, conv: slabs.SlabConvolution, *tensors: Tensor) -> Work:
    target = tensors[0] if made is None else made
    return 2.0 * target.numel() * conv.weight[0].numel(), _moved(target, *tensors, conv.weight)


OPERATIONS: tuple[tuple[Any, str, str, Callable[..., Work]], ...] = (
    (hunyuan_ext, "rope_attention", "rope_attention", _attention),
    (hunyuan_ext, "linear", "linear", _product),
    (hunyuan_ext, "layer_norm_modulate", "layer_norm_modulate", _pass),
    (hunyuan_ext, "gate_residual", "gate_residual", _pass),
    (hunyuan_ext, "group_norm_silu", "group_norm_silu", _pass),
    (slabs.SlabConvolution, "__call__", "convolution", _convolution),
    (slabs.SlabConvolution, "add_to", "convolution and residual", _convolution),
    (slabs.SlabConvolution, "__init__", "layout of convolution weights", lambda out, *args: (0.0, 2 * args[1].nbytes)),
    (slabs, "norm_slab", "norm, SiLU, padding", _pass),
    (slabs.ChannelMoments, "add", "sums for the next norm", lambda out, moments, slab: (0.0, slab.nbytes)),
    (torch.nn.functional, "scaled_dot_product_attention", "attention of the VAE", lambda out, *args: (0.0, 0.0)),
)


def install(recorder: Recorder) -> None:
    """Before the models are imported: they take the functions from their modules then."""
    for owner, attribute, name, work in OPERATIONS:
        setattr(owner, attribute, recorder.wrap(name, getattr(owner, attribute), work))
    from hunyuan_video.models.vae import streaming

    streaming.put_parities = recorder.wrap("folded parities into place", streaming.put_parities, _pass)
    streaming._start_from = recorder.wrap("residual and shortcut", streaming._start_from, _pass)


def floor(spent: Spent, ceilings: Ceilings, dtype: str) -> float:
    """Seconds that the machine needs at least."""
    return max(spent.flops / ceilings.product[dtype], spent.bytes / ceilings.copy) / 1e12


def profile(recorder: Recorder, run: Callable[[], Any]) -> float:
    """Seconds of one run; the recorder then holds what a run calls, and the seconds of these calls."""
    run()
    recorder.spent.clear()
    recorder.counts = True
    run()
    recorder.counts = False
    for spent in recorder.spent.values():
        spent.seconds = 0.0
    started = time.perf_counter()
    for _ in range(REPEATS):
        run()
    seconds = (time.perf_counter() - started) / REPEATS
    for spent in recorder.spent.values():
        spent.seconds /= REPEATS
    return seconds


def table(title: str, recorder: Recorder, seconds: float, ceilings: Ceilings, dtype: str) -> str:
    head = ("operation", "calls", "ms", "share", "floor, ms", "ratio")
    rows = [head, tuple("---" for _ in head)]
    rest = seconds
    for name, spent in sorted(recorder.spent.items(), key=lambda item: -item[1].seconds):
        taken, least = spent.seconds, floor(spent, ceilings, dtype)
        rest -= taken
        ratio = f"{taken / least:.2f}" if least else "-"
        shown = f"{1e3 * least:.2f}" if least else "-"
        rows.append((name, str(spent.calls), f"{1e3 * taken:.2f}", f"{taken / seconds:.0%}", shown, ratio))
    rows.append(("everything else", "", f"{1e3 * rest:.2f}", f"{rest / seconds:.0%}", "-", "-"))
    return f"## {title}: {1e3 * seconds:.1f} ms\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


@torch.inference_mode()
def tables(recorder: Recorder, ceilings: Ceilings, scale_name: str) -> Iterator[str]:
    from benchmarks.cpu import minis, tasks

    scale = minis.SCALES[scale_name]
    with minis.saved(minis.transformer(scale.transformer), minis.vae(scale.vae)) as folder:
        for dtype in ("bfloat16", "float32"):
            model = minis.load(folder, "transformer", minis.OURS, dtype)
            for video in (scale.small, scale.large):
                inputs = tasks.forward_inputs(scale, video, dtype)[0]
                seconds = profile(recorder, lambda given=inputs, network=model: network(**given))
                yield table(f"Transformer, {tasks.tokens(scale, video)}, {dtype}", recorder, seconds, ceilings, dtype)
            decoder = minis.load(folder, "vae", minis.OURS, dtype)
            x = minis.latents(scale, scale.small).to(getattr(torch, dtype))
            seconds = profile(recorder, lambda given=x, network=decoder: network.decode(given))
            clip = str(scale.small).split(",")[0]
            yield table(f"VAE decode, {clip}, {dtype}", recorder, seconds, ceilings, dtype)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models: checks that it runs")
    parser.add_argument("--output", type=Path, help="folder of the results")
    args = parser.parse_args(argv)
    recorder = Recorder()
    install(recorder)
    from benchmarks import machine, results

    ceilings = machine.measure_ceilings("cpu", args.quick)
    others = machine.Others()
    parts = list(tables(recorder, ceilings, "quick" if args.quick else "mini"))
    about = machine.part_facts()
    lines = [
        "# Profile and floors",
        f"{machine.cpu_name()}, {torch.get_num_threads()} threads; {about['date']}, commit {about['commit']}; "
        f"processors used by others: {others.share() or 0:.0%}. Copy: {1e3 * ceilings.copy:.1f} GB/s read and written; "
        + ", ".join(f"{dtype} product: {rate:.2f} TFLOP/s" for dtype, rate in ceilings.product.items())
        + ".",
    ]
    report = "\n\n".join([*lines, *parts]) + "\n"
    print(report)
    suffix = "-quick" if args.quick else ""
    results.write((args.output or results.RESULTS) / f"{machine.slug()}{suffix}-profile.md", report)


if __name__ == "__main__":
    main()
