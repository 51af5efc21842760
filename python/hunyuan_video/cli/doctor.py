"""`hunyuan-video doctor`: what this machine is, what was built, and which kernel each operation uses and why."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from hunyuan_video import __version__

GB = 1e9
WORDS = {
    "native": "own kernel",
    "torch": "PyTorch",
    "native + torch": "own kernel, then PyTorch",
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("doctor", help="explain the machine, the build and each operation's choice")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    report = collect()
    print(json.dumps(report, indent=2, default=str) if args.json else "\n".join(in_words(report)))
    return 0


def collect() -> dict[str, Any]:
    """Everything the report is made of."""
    import torch

    import hunyuan_ext

    return {
        "version": __version__,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": memory(),
        "cuda_build": torch.version.cuda,
        "gpus": [gpu(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else [],
        "checkpoint": bundled(),
        "video": video_codec(),
        "kernels": hunyuan_ext.capabilities(),
    }


def memory() -> dict[str, float] | None:
    """Bytes of main memory, all and free; None where the system does not say."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        table = {words[0].rstrip(":"): 1024.0 * int(words[1]) for words in lines}
        return {"total": table["MemTotal"], "free": table["MemAvailable"]}
    except (OSError, KeyError, ValueError, IndexError):
        return None


def gpu(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "memory": properties.total_memory,
        "capability": f"sm_{properties.major}{properties.minor}",
    }


def bundled() -> dict[str, Any]:
    from hunyuan_video.checkpoints.layout import BUNDLED, MODEL_INDEX

    folder = BUNDLED["tiny"]
    present = (folder / MODEL_INDEX).exists()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if present else 0
    return {"name": "tiny", "present": present, "bytes": size}


def video_codec() -> dict[str, Any]:
    try:
        import av
    except ImportError:
        return {"pyav": None, "h264": False}
    return {"pyav": av.__version__, "h264": "libx264" in av.codecs_available}


def in_words(report: dict[str, Any]) -> list[str]:
    """The report, one thought per line, problems with what to do about them."""
    kernels = report["kernels"]
    machine = kernels["machine"]
    title = f"hunyuan-video {report['version']} with Python {machine['python']} and torch {machine['torch']}"
    lines = [f"{title} on {machine['system']}", "", "Machine", *machine_lines(report)]
    lines += ["", "Build", *build_lines(kernels)]
    if kernels["cuda_kernels"]:
        lines += ["", "Kernels for GPUs", *cuda_kernel_lines(kernels["cuda_kernels"], report["gpus"])]
    lines += ["", "Files", *file_lines(report)]
    lines += ["", "Operations", *operation_lines(kernels), f"  {kernels['conditions']}"]
    lines += ["", "Training on the processor in bfloat16", *training_lines(kernels)]
    return lines


def machine_lines(report: dict[str, Any]) -> list[str]:
    machine, free = report["kernels"]["machine"], report["memory"]
    lines = [f"  processor: {machine['cpu']}, {report['cores']} usable cores; torch uses {machine['threads']} threads"]
    fast = "has a" if machine["bfloat16_matmul"] else "has no"
    lines.append(f"  it {fast} matrix unit for bfloat16")
    if free:
        lines.append(f"  memory: {free['total'] / GB:.1f} GB, {free['free'] / GB:.1f} GB of it free")
    for i, gpu in enumerate(report["gpus"]):
        size = f"{gpu['memory'] / GB:.0f} GB"
        lines.append(f"  GPU {i}: {gpu['name']}, {size}, {gpu['capability']}; models run here in bfloat16")
    if not report["gpus"]:
        why = "torch finds no usable device" if report["cuda_build"] else "this torch was built without CUDA"
        lines.append(f"  GPU: none ({why}); models run on the processor in float32")
    return lines


def build_lines(kernels: dict[str, Any]) -> list[str]:
    build = kernels["build"]
    if not build["native"]:
        return [f"  own kernels: none, PyTorch does everything; {build['reason']}"]
    archs = ", ".join(build["cuda_archs"]) or "none (built without CUDA; it needs nvcc and HUNYUAN_CUDA=ON)"
    lines = [f"  own kernels for processors: {', '.join(build['isa'])}; this machine runs {kernels['machine']['isa']}"]
    lines.append(f"  own kernels for GPUs: {archs}")
    if kernels["backend"] != "auto":
        lines.append(f"  HUNYUAN_EXT_BACKEND={kernels['backend']} overrides the choice below")
    return lines


def cuda_kernel_lines(kernels: dict[str, Any], gpus: list[dict[str, Any]]) -> list[str]:
    """Per kernel its number formats, the architectures it was built for, and which of this machine's GPUs run it."""
    lines = []
    for name, kernel in kernels.items():
        ways: dict[str, list[str]] = {}
        for arch, how in kernel["archs"].items():
            ways.setdefault(how, []).append(arch)
        built = "; ".join(f"{', '.join(archs)} ({how})" for how, archs in ways.items()) or "not built"
        line = f"  {name}, {', '.join(kernel['dtypes'])}: {built}"
        if gpus:
            running = ", ".join(f"GPU {i}" for i in kernel["gpus"])
            line += f"; runs on {running}" if running else "; runs on no GPU of this machine, PyTorch does its work"
        lines.append(line)
    return lines if gpus else [*lines, "  none of them runs here: torch finds no usable GPU"]


def file_lines(report: dict[str, Any]) -> list[str]:
    tiny, video = report["checkpoint"], report["video"]
    if tiny["present"]:
        lines = [f"  bundled checkpoint tiny: {tiny['bytes'] / 1e6:.1f} MB"]
    else:
        lines = ["  bundled checkpoint tiny: missing; install the package again, or give --model FOLDER"]
    if video["h264"]:
        return [*lines, f"  video files: H.264 through PyAV {video['pyav']}"]
    return [*lines, "  video files: no H.264 encoder; pip install av (until then .gif, .webp and .png work)"]


def operation_lines(kernels: dict[str, Any]) -> list[str]:
    """Per operation and device what runs and why; number formats with the same answer share a line."""
    lines = []
    for op, devices in kernels["ops"].items():
        lines.append(f"  {op}")
        for device, dtypes in devices.items():
            answers: dict[tuple[str, str], list[str]] = {}
            for dtype, choice in dtypes.items():
                answer = choice["implementation"], _short(choice["reason"], kernels)
                answers.setdefault(answer, []).append(dtype)
            for (implementation, reason), names in answers.items():
                lines.append(f"    {device}, {' and '.join(names)}: {WORDS[implementation]} ({reason})")
    return lines


def training_lines(kernels: dict[str, Any]) -> list[str]:
    return [
        f"  {op}: {WORDS[kernel['implementation']]} ({_short(kernel['reason'], kernels)})"
        for op, kernel in kernels["training"].items()
    ]


def _short(reason: str, kernels: dict[str, Any]) -> str:
    """Without the build's own problem, which the report gives once."""
    missing = kernels["build"].get("reason")
    return reason.replace(missing, "no own kernels, see Build") if missing else reason
